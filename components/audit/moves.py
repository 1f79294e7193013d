"""Whether a bin changed between its photo and its recount: then the photo does not show what was counted."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import NamedTuple

from components.core.errors import UserError
from components.core.recounts import Recount
from components.core.tables import Column, as_text, read_rows

NONE = "none"

_BIN = Column(("bin", "bin_id", "location", "file", "photo"))
_WHEN = Column(("when", "moved_at", "time", "timestamp", "date"))


class Moment(NamedTuple):
    """A time as somebody wrote it down: the earliest and the latest that it can be. A day alone is all of that day."""

    earliest: datetime
    latest: datetime


_UNKNOWN = Moment(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def moment_of(text: str) -> Moment | None:
    """A time in ISO 8601, in UTC where it names no zone; None for anything else."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            read = datetime.fromisoformat(text)
        except ValueError:
            return None
        known = read if read.tzinfo else read.replace(tzinfo=UTC)
        return Moment(known, known)
    return Moment(datetime.combine(day, time.min, UTC), datetime.combine(day, time.max, UTC))


@dataclass(frozen=True)
class Moves:
    """When something was put into bins or taken out, by bin."""

    times: dict[str, list[Moment]]

    def between(self, recount: Recount) -> bool:
        """Whether the bin of a recount may have changed since its photo. A time that is not known could be any."""
        taken = moment_of(recount.taken_at) or _UNKNOWN
        counted = moment_of(recount.when) or _UNKNOWN
        moves = self.times.get(recount.bin or recount.file, [])
        return any(move.latest > taken.earliest and move.earliest < counted.latest for move in moves)


def read_moves(given: str) -> Moves:
    """A table with a bin and a time a row, or `none`, somebody's word that nothing moved.

    Raises UserError for a file that is no such table, and for a row without a bin or with a time that cannot be read.
    """
    if given.lower() == NONE:
        return Moves({})
    path = Path(given)
    if not path.is_file():
        raise UserError(
            f"MOVES={given}: there is no such file; give a table of bins and times, or MOVES={NONE} if nothing was "
            "put into these bins or taken out between photo and recount."
        )
    return Moves(_by_bin(read_rows(path, (_BIN, _WHEN)), path.name))


def _by_bin(rows: Iterable[tuple[object, ...]], table: str) -> dict[str, list[Moment]]:
    times: dict[str, list[Moment]] = {}
    for number, (bin_, when) in enumerate(rows, start=1):
        name, moment = as_text(bin_), moment_of(as_text(when))
        if not name:
            raise UserError(f"Row {number} of {table} names no bin; without it no move can be told from another.")
        if moment is None:
            raise UserError(
                f"Row {number} of {table} has the time {as_text(when)[:40]!r}; write it like 2026-11-27 14:05, or the "
                "day alone."
            )
        times.setdefault(name, []).append(moment)
    return times
