"""Twenty kills that nothing can answer: no process stays, and the store takes no more room than after a quiet run."""

import time
from itertools import chain, cycle, islice
from pathlib import Path

import pytest

from tests.local.test_interrupt import MOMENTS, PipelineRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS = 20
# The source is loaded once: from the second time round that moment does not come any more.
AFTERWARDS = [moment for moment in MOMENTS if moment[0] != "loading"]
SECONDS_TO_LIVE = 5.0
GROWTH = 1.25


def finish(source: Path, home: Path) -> int:
    """Bytes that the store takes after a run to its end."""
    run = PipelineRun(source, home)
    assert run.process.wait(600) == 0, run.output
    run.end()
    return sum(path.stat().st_blocks * 512 for path in (home / "store").rglob("*") if path.is_file())


def seconds_until_all_have_ended(run: PipelineRun) -> float:
    killed = time.monotonic()
    while run.left_behind():
        assert time.monotonic() - killed < 60, run.left_behind()
        time.sleep(0.1)
    return time.monotonic() - killed


def test_twenty_kills_leave_no_process_and_no_larger_store(source: Path, tmp_path: Path) -> None:
    quiet = finish(source, tmp_path / "quiet")
    longest = 0.0
    for text, delay in islice(chain(MOMENTS, cycle(AFTERWARDS)), KILLS):
        run = PipelineRun(source, tmp_path / "killed")
        run.wait_for(text)
        time.sleep(delay)
        run.process.kill()
        took = seconds_until_all_have_ended(run)
        print(f"killed {delay} s after {text or 'the start'!r}: {took:.1f} s until its last process")
        longest = max(longest, took)
        run.end()
    killed = finish(source, tmp_path / "killed")
    print(f"store after a quiet run {quiet:,} bytes, after {KILLS} kills {killed:,}; longest end {longest:.1f} s")
    assert longest <= SECONDS_TO_LIVE
    assert killed <= GROWTH * quiet
