"""Recounts that came back: kept for good, and what they say of how often records are wrong.

A share of every recount list is drawn at random among the bins that are not ranked. With n ranked and m random recounts
of N bins, q = m / (N - n), the estimate is (wrong ranked + wrong random / q) / N; ranked recounts alone would tell far
too much, for those bins were chosen to be wrong. The interval is Wilson's for the random part (Wilson 1927).
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import UserError
from components.core.intervals import Interval, proportion_interval
from components.core.layout import RECOUNTS_PREFIX
from components.core.patience import ObjectExists
from components.core.store import Store
from components.core.tables import FILE, Column, as_text, read_rows, spelled_number

FEWEST_RANDOM = 20  # random recounts, below which the share that the model was made with stays

_RECORDED = Column(("recorded", "record", "recorded_quantity"))
_COUNTED = Column(("counted", "recounted", "actual"))
_WHY = Column(("why",))
_CHANCE = Column(("chance",))
_FURTHER = tuple(Column((name,), needed=False) for name in ("bin", "site", "by", "when", "probability"))
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("file", "bin", "site", "by", "when", "why", "kept_at")]
    + [("recorded", pa.int64()), ("counted", pa.int64()), ("chance", pa.float64()), ("probability", pa.float64())]
)


@dataclass(frozen=True)
class Recount:
    """One bin that was counted. `why`, `chance` and `probability` are those of the list that it was on."""

    file: str
    recorded: int
    counted: int
    why: str
    chance: float
    probability: float | None
    bin: str = ""
    site: str = ""
    by: str = ""
    when: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the record was."""
        return self.recorded != self.counted


@dataclass(frozen=True)
class Estimate:
    """How often records are wrong, by recounts: a share of all bins of the lists, its 95 % interval, and the counts."""

    share: float
    interval: Interval
    ranked: int
    ranked_wrong: int
    ranked_expected: float
    random: int
    random_wrong: int

    @property
    def is_enough(self) -> bool:
        """Whether the share may take the place of the one that the model was made with."""
        return self.random >= FEWEST_RANDOM

    def __str__(self) -> str:
        """What was found, in sentences."""
        low, high = self.interval
        use = "later audits go by it" if self.is_enough else f"fewer than {FEWEST_RANDOM} random ones: not used yet"
        return (
            f"Of {self.ranked:,} ranked recounts {self.ranked_wrong:,} had a wrong record "
            f"({self.ranked_expected:,.0f} were expected), of {self.random:,} random ones {self.random_wrong:,}. So "
            f"about {self.share:.1%} of all records are wrong (95 % interval {low:.1%} to {high:.1%}); {use}."
        )


def read_recounts(path: Path) -> tuple[list[Recount], list[tuple[str, str]]]:
    """Recounts from a recount.csv whose column `counted` was filled in, and rows of no use with the reason.

    Rows that were not counted yet are passed over. Raises UserError for another kind of table, one where nothing was
    counted, and one whose random bins were not all counted: leaving some out would make the estimate wrong.
    """
    found: dict[str, Recount] = {}
    refused: list[tuple[str, str]] = []
    open_random = 0
    for cells in read_rows(path, (FILE, _RECORDED, _COUNTED, _WHY, _CHANCE, *_FURTHER)):
        file, recorded, counted, why, chance, bin_, site, by, when, probability = cells
        name = as_text(file).removeprefix("'")
        if spelled_number(counted) is None:
            open_random += as_text(why) == "random"
            continue
        problem = _problem(recorded, counted, why, chance)
        if problem:
            refused.append((name, problem))
            continue
        one = Recount(
            name,
            int(as_text(recorded)),
            int(as_text(counted)),
            as_text(why),
            float(as_text(chance)),
            float(as_text(probability)) if as_text(probability) else None,
            *(as_text(cell) for cell in (bin_, site, by, when)),
        )
        if name in found and found[name].counted != one.counted:
            refused.append((name, f"it was counted twice, as {found[name].counted} and as {one.counted}"))
            continue
        found[name] = one
    if not found:
        raise UserError(f"{path.name} holds no recount; fill in its column 'counted' and give it again.")
    if open_random:
        raise UserError(
            f"{open_random} bins of {path.name} that were drawn at random are not counted yet; count all of these, for "
            "without them nothing can be said of how often records are wrong."
        )
    return list(found.values()), refused


def _problem(recorded: object, counted: object, why: object, chance: object) -> str:
    for name, value in (("counted", counted), ("recorded", recorded)):
        number = spelled_number(value)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 1_000_000:
            return f"its column {name} is {as_text(value)[:40]!r}, not a whole number from 0"
    if as_text(why) not in ("ranked", "random"):
        return f"its column why is {as_text(why)[:40]!r}, neither ranked nor random"
    try:
        valid = 0 < float(as_text(chance)) <= 1
    except ValueError:
        valid = False
    return "" if valid else f"its column chance is {as_text(chance)[:40]!r}, no share between 0 and 1"


def keep(store: Store, recounts: Sequence[Recount], now: datetime) -> str:
    """Put recounts into the bucket, under a name that says what they hold; kept once however often they are given."""
    digest = hashlib.sha256(repr(sorted(map(repr, recounts))).encode()).hexdigest()[:16]
    key = f"{RECOUNTS_PREFIX}{digest}.parquet"
    rows = [{**vars(one), "kept_at": now.astimezone(UTC).isoformat(timespec="seconds")} for one in recounts]
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), data)
    try:
        store.create(key, data.getvalue())
    except ObjectExists:
        return key
    return key


def kept(store: Store) -> Iterator[list[Recount]]:
    """All lists of recounts in the bucket, the first that came first. Raises UserError for one that is none."""
    lists = []
    for info in store.list(RECOUNTS_PREFIX):
        try:
            rows = pq.read_table(io.BytesIO(store.get(info.key)), schema=_SCHEMA).to_pylist()
        except pa.ArrowException as error:
            raise UserError(f"{info.key} in {store.location} holds no recounts that can be read; remove it.") from error
        lists.append((min((row["kept_at"] for row in rows), default=""), info.key, rows))
    for _, _, rows in sorted(lists, key=lambda one: one[:2]):
        yield [Recount(**{name: row[name] for name in row if name != "kept_at"}) for row in rows]


def estimate(lists: Iterable[Sequence[Recount]]) -> Estimate | None:
    """How often records are wrong, from the lists of several audits; None where nothing random was counted."""
    ranked, random = [], []
    bins = others = 0.0
    for recounts in lists:
        drawn = [one for one in recounts if one.why == "random"]
        first = [one for one in recounts if one.why == "ranked"]
        if not drawn:
            continue
        rest = len(drawn) / drawn[0].chance
        ranked += first
        random += drawn
        others += rest
        bins += len(first) + rest
    if not random:
        return None
    ranked_wrong, random_wrong = sum(one.wrong for one in ranked), sum(one.wrong for one in random)

    def share(of_random: float) -> float:
        return (ranked_wrong + of_random * others) / bins

    low, high = proportion_interval(random_wrong, len(random))
    return Estimate(
        share=share(random_wrong / len(random)),
        interval=(share(low), share(high)),
        ranked=len(ranked),
        ranked_wrong=ranked_wrong,
        ranked_expected=sum(one.probability or 0.0 for one in ranked),
        random=len(random),
        random_wrong=random_wrong,
    )
