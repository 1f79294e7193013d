"""The console of a local run: steps' own lines, under a heading each, and nothing of the orchestrator's."""

import contextlib
import io
import logging
import threading

from kfp.local import logging_utils

from pipeline.console import CacheNews, Console, steps_marked

RUN = """\
19:26:23.850 - INFO - Running pipeline: \x1b[95m'bin-counter'\x1b[0m
--------------------------------------------------------------------------------
19:26:23.855 - INFO - Executing task \x1b[96m'ingest-metadata'\x1b[0m
19:26:23.855 - INFO - Streamed logs:

    [KFP Executor 2026-11-23 19:26:24,064 INFO]: Looking for component `ingest_metadata`
    [KFP Executor 2026-11-23 19:26:24,065 INFO]: Got executor_input:
    {
        "inputs": {
            "secret": 1
        }
    }
    files: 0 of 3[KFP Executor 2026-11-23 20:12:58,132 INFO]: Found credentials in environment variables.
    read 1,012 records
    error: said again at the end
    [KFP Executor 2026-11-23 19:26:24,065 INFO]: Wrote executor output file to somewhere.

19:26:24.009 - INFO - Task \x1b[96m'ingest-metadata'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m
19:26:24.009 - INFO - Task \x1b[96m'ingest-metadata'\x1b[0m outputs:
    records: Dataset( name='records' )
--------------------------------------------------------------------------------
"""


def test_a_step_is_a_heading_and_its_own_lines() -> None:
    out = io.StringIO()
    console = Console(out)
    for piece in (RUN[i : i + 7] for i in range(0, len(RUN), 7)):
        console.write(piece)
    assert out.getvalue().splitlines() == [
        "",
        "▶ ingest_metadata",
        "  files: 0 of 3",
        "  read 1,012 records",
        "  done in 0.0 s",
    ]


def test_lines_that_kfp_prints_with_an_indent_keep_theirs() -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(Console(out)), steps_marked():
        print("19:26:23.855 - INFO - Executing task 'split'")
        with logging_utils.indented_print():
            print("one\n", end="")
            print("  two\n", end="")
        print("of no interest")
    assert out.getvalue().splitlines() == ["", "▶ split", "  one", "    two"]


def test_steps_that_overlap_lose_no_line_and_leave_no_indent_behind() -> None:
    out = io.StringIO()
    both_run, short_one_ended = threading.Barrier(2), threading.Event()

    def step(name: str, short: bool) -> None:
        print(f"19:26:23.855 - INFO - Executing task '{name}'")
        with logging_utils.indented_print():
            both_run.wait()
            if not short:
                short_one_ended.wait()
            print(f"{name} says\n", end="")
        print(f"19:26:24.009 - INFO - Task '{name}' finished with status SUCCESS")
        short_one_ended.set()

    with contextlib.redirect_stdout(Console(out)), steps_marked():
        threads = [threading.Thread(target=step, args=(name, name == "short")) for name in ("long", "short")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("19:26:23.855 - INFO - Executing task 'next'")
        with logging_utils.indented_print():
            print("next says\n", end="")
    lines = [line for line in out.getvalue().splitlines() if line]
    assert set(lines[:2]) == {"▶ long", "▶ short"}
    assert lines[2:] == ["  short says", "  done in 0.0 s", "  long says", "  done in 0.0 s", "▶ next", "  next says"]


def test_a_cached_step_is_named() -> None:
    out = io.StringIO()
    news = CacheNews(out)
    news.handle(logging.makeLogRecord({"msg": "Task split cache hit (key=abc); skipping execution.", "levelno": 20}))
    news.handle(logging.makeLogRecord({"msg": "something else", "levelno": 20}))
    assert out.getvalue() == "\n▶ split: unchanged, taken from an earlier run\n"
