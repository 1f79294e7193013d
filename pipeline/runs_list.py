"""The runs that a home holds, newest first; whatever cannot be read is told with its reason, and stops nothing."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from components.core.bundle import INFO_FILE, BundleInfo
from components.core.errors import UserError
from components.core.metrics import Evaluation
from components.core.verdict import Verdict
from pipeline.run_record import RECORD, RUN_NAME, RunRecord, State, state_of

RUNS_PAGE = "runs.html"
# The pages of a run, in the order of its steps, and what links call them.
PAGES = {
    "ingest.html": "Data",
    "split.html": "Split",
    "download.html": "Photos",
    "train.html": "Training",
    "report.html": "Result",
}
VERDICT, METRICS = "verdict.json", "metrics.json"
FURTHER = ("rejects.csv", "bins.csv", METRICS)  # files that people look at as well
_TIME = re.compile(r"(\d{8}-\d{6})(?:-(\d+))?")
Found = TypeVar("Found")


@dataclass(frozen=True)
class ListedRun:
    """What a folder says of its run; `problems` is what it should say and does not."""

    name: str
    state: State | None = None  # None: made before runs kept a record, or unreadable
    record: RunRecord | None = None
    verdict: Verdict | None = None
    info: BundleInfo | None = None
    metrics: Evaluation | None = None
    pages: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def when(self) -> datetime | None:
        """When it started; of runs without a record, when it ended."""
        return self.record.started if self.record else _time_of(self.name)

    @property
    def took(self) -> str:
        """How long it took, "" where that is not known."""
        if self.record is None or self.record.ended is None:
            return ""
        minutes, seconds = divmod(round((self.record.ended - self.record.started).total_seconds()), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def list_runs(home: Path) -> list[ListedRun]:
    """Every run in `home`/runs, newest first, then what is no run. Raises UserError when there is nothing."""
    folder = home / "runs"
    entries = [entry for entry in folder.iterdir() if entry.name != RUNS_PAGE] if folder.is_dir() else []
    if not entries:
        raise UserError(f"There are no runs in {home} yet; make one with `make pipeline`.")
    return [_read(entry) for entry in sorted(entries, key=_age, reverse=True)]


def shown_time(time: datetime) -> str:
    """A time as pages show it, to the minute and in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _age(entry: Path) -> tuple[str, int, str]:
    match = _TIME.fullmatch(entry.name)
    return (match[1], int(match[2] or 1), "") if match else ("", 0, entry.name)


def _time_of(name: str) -> datetime | None:
    match = _TIME.fullmatch(name)
    try:
        return datetime.strptime(match[1], RUN_NAME).replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def _read(folder: Path) -> ListedRun:
    problems: list[str] = []
    try:
        if folder.is_symlink() or not folder.is_dir():
            return ListedRun(_name(folder), problems=["This is no folder of a run."])
        names = {entry.name for entry in folder.iterdir() if entry.is_file() and not entry.is_symlink()}
    except OSError as error:
        return ListedRun(_name(folder), problems=[f"This folder cannot be read: {error.strerror}."])
    if not names & {RECORD, VERDICT}:
        return ListedRun(_name(folder), problems=[_foreign(folder.name)])
    record = _try(folder / RECORD, RunRecord.read, problems) if RECORD in names else None
    state = _try(folder / RECORD, state_of, problems) if record else None
    if state not in (None, State.DONE):
        return ListedRun(_name(folder), state, record)
    return ListedRun(
        _name(folder),
        state,
        record,
        _try(folder / VERDICT, Verdict.read, problems),
        _try(folder / "model" / INFO_FILE, BundleInfo.read, problems),
        _try(folder / METRICS, lambda path: Evaluation.model_validate_json(path.read_bytes()), problems),
        [name for name in (*PAGES, *FURTHER) if name in names],
        problems,
    )


def _foreign(name: str) -> str:
    if _TIME.fullmatch(name):
        return "This folder is named like a run and holds neither run.json nor verdict.json."
    if name.startswith(".") or name.endswith(".new"):
        return "What a run was writing when it was killed; it may be removed."
    return "No run made this folder: it holds neither run.json nor verdict.json."


def _try(path: Path, read: Callable[[Path], Found], problems: list[str]) -> Found | None:
    """What was read, or None with the reason put to the problems."""
    try:
        if path.is_file():
            return read(path)
        problems.append(f"{path.name} is missing.")
    except UserError as error:
        reason = str(error).rpartition(";")[0]  # without the advice, which is a step's
        problems.append(f"{reason.replace(str(path), path.name)}.")
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}.")
    except ValueError:
        problems.append(f"{path.name} cannot be read: it has not the form that it should have.")
    return None


def _name(folder: Path) -> str:
    return folder.name.encode(errors="backslashreplace").decode()
