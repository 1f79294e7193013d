"""What a local run leaves about itself, from its first moment on: when, by which command, from what, and how it ended.

It lies as `run.json` in the run's folder, which is named after the time of the start. While the run goes on it holds a
lock on that file, so that a run which was killed, and could write nothing any more, is told from one that goes on.
"""

import fcntl
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from pydantic import AwareDatetime

from components.core.errors import UserError
from components.core.layout import PUBLIC_SOURCE_BUCKET
from components.core.place import is_address
from components.core.stored import Stored
from pipeline.parameters import Parameters
from pipeline.source.fill import GENERATED

RECORD = "run.json"
RUN_NAME = "%Y%m%d-%H%M%S"  # of a run's folder, in UTC


class State(StrEnum):
    """How far a run came. A record cannot say INTERRUPTED of a run that was killed: `state_of` can."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class RunRecord(Stored):
    """run.json: a run as it was asked for, and how it ended. `reason` is the sentence that a failed one ended with."""

    what: ClassVar[str] = "the record of a run"
    remedy: ClassVar[str] = "run the pipeline again"

    started: AwareDatetime
    ended: AwareDatetime | None = None
    command: str
    data: str  # in words
    parameters: dict[str, bool | int | float | str]
    state: State = State.RUNNING
    reason: str = ""


@dataclass
class Run:
    """A run that goes on: its folder and its record so far."""

    folder: Path
    record: RunRecord

    def end(self, state: State, reason: str = "", folder: Path | None = None) -> None:
        """Write how it ended into its folder, or into that in which its results are put together."""
        ended = {"ended": datetime.now(UTC), "state": state, "reason": _printable(reason)}
        self.record = self.record.model_copy(update=ended)
        self.record.write((folder or self.folder) / RECORD)


@contextmanager
def recorded(home: Path, parameters: Parameters) -> Iterator[Run]:
    """Make the folder of a run in `home`/runs; what ends the block early is written there as the way the run ended."""
    started = datetime.now(UTC)
    record = RunRecord(
        started=started,
        command=command_of(parameters),
        data=data_of(parameters),
        parameters=parameters.model_dump(mode="json"),
    )
    run = Run(_new_folder(home / "runs", started.strftime(RUN_NAME)), record)
    record.write(run.folder / RECORD)
    with (run.folder / RECORD).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield run
        except KeyboardInterrupt:
            _ended_early(run, State.INTERRUPTED, "")
            raise
        except UserError as error:
            _ended_early(run, State.FAILED, str(error))
            raise
        except BaseException as error:
            _ended_early(run, State.FAILED, f"Unexpectedly: {type(error).__name__}: {error}")
            raise


def _ended_early(run: Run, state: State, reason: str) -> None:
    if run.record.state != State.DONE:  # results that are whole stay results, whatever happens while they are told
        with suppress(OSError):  # a full disk, say, which is told anyway
            run.end(state, reason)


def state_of(path: Path) -> State:
    """How a run ended by the record at `path`, or that it goes on. Raises UserError and OSError when it cannot be read.

    A record that says `running` and that nobody holds is of a run that was killed.
    """
    with path.open("rb") as file:
        state = RunRecord.parse(file.read(), path).state
        if state != State.RUNNING:
            return state
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return State.RUNNING
        return State.INTERRUPTED


def command_of(parameters: Parameters) -> str:
    """What to type for the same run: the parameters that were given, as a shell takes them."""
    given = [
        f"{name.upper()}={shlex.quote(_text(getattr(parameters, name)))}"
        for name in type(parameters).model_fields
        if name in parameters.model_fields_set
    ]
    return " ".join(["make pipeline", *given])


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def data_of(parameters: Parameters) -> str:
    """Where the bins come from, in words: drawn ones, the folder that was given, or a bucket."""
    source = parameters.source
    if source == GENERATED:
        words = f"drawn bins (seed {parameters.seed}), no real photos"
    elif source == f"s3://{PUBLIC_SOURCE_BUCKET}":
        words = f"the public Amazon Bin Image Dataset, {source}"
    elif is_address(source):
        words = f"the bucket {source}"
    else:
        words = f"the folder {Path(source).resolve()}"
    return _printable(f"{words}, a sample of about {parameters.limit:,} bins" if parameters.limit else words)


def _printable(text: str) -> str:
    """The same without what no text file can hold: a path may be any bytes."""
    return text.encode(errors="backslashreplace").decode()


def _new_folder(runs: Path, name: str) -> Path:
    """A folder that was not there yet, named after the time; two runs may start in one second."""
    runs.mkdir(parents=True, exist_ok=True)
    for each in (name, *(f"{name}-{number}" for number in range(2, 1000))):
        with suppress(FileExistsError):
            (runs / each).mkdir()
            return runs / each
    raise UserError(f"{runs} holds a thousand runs of one second; set the clock of this machine.")
