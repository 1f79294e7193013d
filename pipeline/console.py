"""What a local run prints: the steps' own lines under a heading each, without the orchestrator's chatter."""

import io
import logging
import re
import sys
import time
from typing import TextIO

_STARTED = re.compile(r" - INFO - Executing task '?([\w-]+)'?")
_FINISHED = re.compile(r" - (?:INFO|ERROR) - Task '?([\w-]+)'? finished with status (\w+)")
_CACHED = re.compile(r"Task ([\w-]+) cache hit")
_COLOUR = re.compile(r"\x1b\[\d+m")
_STEP_INDENT = "    "
_EXECUTOR = "[KFP Executor"


class Console(io.TextIOBase):
    """A text stream that stands in for stdout while kfp.local runs, and passes on what a person wants to read."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._pending = ""
        self._in_step = False
        self._in_executor_dump = False
        self._started = 0.0

    def write(self, text: str) -> int:
        """Take any piece of text; whole lines are passed on or dropped."""
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            self._line(_COLOUR.sub("", line))
        return len(text)

    def flush(self) -> None:
        """Flush what stands behind this stream."""
        self._out.flush()

    def _line(self, line: str) -> None:
        if match := _STARTED.search(line):
            self._in_step, self._started = True, time.monotonic()
            self._say(f"\n▶ {match[1].replace('-', '_')}")
        elif match := _FINISHED.search(line):
            self._in_step = False
            if match[2] == "SUCCESS":
                self._say(f"  done in {time.monotonic() - self._started:.1f} s")
        elif self._in_step and line.startswith(_STEP_INDENT):
            self._step_line(line[len(_STEP_INDENT) :])

    def _step_line(self, line: str) -> None:
        if _EXECUTOR in line:
            self._in_executor_dump = line.endswith("Got executor_input:")
            line = line.partition(_EXECUTOR)[0]  # a progress bar that stood in the same line
        elif self._in_executor_dump:
            self._in_executor_dump = line != "}"
            return
        if line.strip() and not line.startswith("error: "):  # the launcher ends with the error's sentence
            self._say(f"  {line}")

    def _say(self, text: str) -> None:
        # Not print: kfp.local replaces it by one that writes an indent to stdout, which is this stream.
        self._out.write(f"{text}\n")
        self._out.flush()


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
