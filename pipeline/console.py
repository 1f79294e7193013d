"""What a local run prints: the steps' own lines under a heading each, without the orchestrator's chatter."""

import builtins
import contextlib
import io
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from kfp.local import logging_utils

_STARTED = re.compile(r" - INFO - Executing task '?([\w-]+)'?")
_FINISHED = re.compile(r" - (?:INFO|ERROR) - Task '?([\w-]+)'? finished with status (\w+)")
_CACHED = re.compile(r"Task ([\w-]+) cache hit")
_COLOUR = re.compile(r"\x1b\[\d+m")
_STEP_INDENT = "    "
_EXECUTOR = "[KFP Executor"


class _State(threading.local):
    """What was written so far by one thread: steps that run at once have one each."""

    pending = ""
    in_step = False
    in_executor_dump = False
    started = 0.0


class Console(io.TextIOBase):
    """A text stream that stands in for stdout while kfp.local runs, and passes on what a person wants to read."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._state = _State()

    def write(self, text: str) -> int:
        """Take any piece of text; whole lines are passed on or dropped."""
        *lines, self._state.pending = (self._state.pending + text).split("\n")
        for line in lines:
            self._line(_COLOUR.sub("", line))
        return len(text)

    def flush(self) -> None:
        """Flush what stands behind this stream."""
        self._out.flush()

    def _line(self, line: str) -> None:
        if match := _STARTED.search(line):
            self._state.in_step, self._state.started = True, time.monotonic()
            self._say(f"\n▶ {match[1].replace('-', '_')}")
        elif match := _FINISHED.search(line):
            self._state.in_step = False
            if match[2] == "SUCCESS":
                self._say(f"  done in {time.monotonic() - self._state.started:.1f} s")
        elif self._state.in_step and line.startswith(_STEP_INDENT):
            self._step_line(line[len(_STEP_INDENT) :])

    def _step_line(self, line: str) -> None:
        if _EXECUTOR in line:
            self._state.in_executor_dump = line.endswith("Got executor_input:")
            line = line.partition(_EXECUTOR)[0]  # a progress bar that stood in the same line
        elif self._state.in_executor_dump:
            self._state.in_executor_dump = line != "}"
            return
        if line.strip() and not line.startswith("error: "):  # the launcher ends with the error's sentence
            self._say(f"  {line}")

    def _say(self, text: str) -> None:
        # Not print: that writes to stdout, which is this stream.
        self._out.write(f"{text}\n")
        self._out.flush()


@contextlib.contextmanager
def steps_marked() -> Iterator[None]:
    """Within the block, what a step prints is indented, and nothing else is, also with steps in parallel.

    kfp.local does that by replacing `print` while a step runs; two steps at once leave the wrong one behind.
    """
    printing, marking = builtins.print, logging_utils.indented_print
    in_step = threading.local()

    def marked_print(*words: object, **options: Any) -> None:
        if getattr(in_step, "now", False):
            words = (_STEP_INDENT + str(words[0]), *words[1:]) if words else (_STEP_INDENT,)
        printing(*words, **options)

    @contextlib.contextmanager
    def mark(_spaces: int = 0) -> Iterator[None]:
        in_step.now = True
        try:
            yield
        finally:
            in_step.now = False

    builtins.print, logging_utils.indented_print = marked_print, mark
    try:
        yield
    finally:
        builtins.print, logging_utils.indented_print = printing, marking


class CacheNews(logging.Handler):
    """Tells which steps were taken from an earlier run; kfp says so in the root logger only."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(logging.INFO)
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line for a cached step; drop anything else."""
        if match := _CACHED.search(record.getMessage()):
            self._out.write(f"\n▶ {match[1].replace('-', '_')}: unchanged, taken from an earlier run\n")


def stdout() -> TextIO:
    """The terminal that the process began with."""
    return sys.__stdout__ or sys.stdout
