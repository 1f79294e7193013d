"""Recounts that come back: reading them, and what they say of how often records are wrong.

A share of every recount list is drawn at random among the bins that are not ranked. With n ranked and m random recounts
of N bins, q = m / (N - n), the estimate is (wrong ranked + wrong random / q) / N; ranked recounts alone would tell far
too much, for those bins were chosen to be wrong. The interval is Wilson's for the random part (Wilson 1927).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import UserError
from components.core.intervals import Interval, proportion_interval
from components.core.recounts import Recount
from components.core.tables import FILE, Column, as_text, read_rows, spelled_number

FEWEST_RANDOM = 20  # random recounts, below which the share that the model was made with stays
SMALLEST_RATE, LARGEST_RATE = 0.001, 0.5  # what recounts of few bins may say of how often records are wrong

_RECORDED = Column(("recorded", "record", "recorded_quantity"))
_COUNTED = Column(("counted", "recounted", "actual"))
_WHY = Column(("why",))
_CHANCE = Column(("chance",))
_FURTHER = tuple(Column((name,), needed=False) for name in ("bin", "site", "by", "when", "taken_at", "probability"))


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


@dataclass(frozen=True)
class Known:
    """What recounts say of how often records are wrong: of all bins, and of each site that has enough random ones."""

    overall: Estimate
    by_site: Mapping[str, Estimate]

    def share_at(self, site: str) -> float | None:
        """The share of wrong records to go by at a site; None where recounts cannot tell yet."""
        found = self.by_site.get(site, self.overall)
        return min(max(found.share, SMALLEST_RATE), LARGEST_RATE) if found.is_enough else None

    def __str__(self) -> str:
        """What was found, in sentences."""
        sites = [
            f"{site} {one.share:.1%} ({one.interval[0]:.1%} to {one.interval[1]:.1%})"
            for site, one in sorted(self.by_site.items())
        ]
        return f"{self.overall} By site: {'; '.join(sites)}." if sites else str(self.overall)


def read_recounts(path: Path) -> tuple[list[Recount], list[tuple[str, str]]]:
    """Recounts from a recount.csv whose column `counted` was filled in, and rows of no use with the reason.

    Rows that were not counted yet are passed over. Raises UserError for another kind of table, one where nothing was
    counted, and one whose random bins were not all counted: leaving some out would make the estimate wrong.
    """
    found: dict[str, Recount] = {}
    refused: list[tuple[str, str]] = []
    open_random = 0
    for cells in read_rows(path, (FILE, _RECORDED, _COUNTED, _WHY, _CHANCE, *_FURTHER)):
        file, recorded, counted, why, chance, bin_, site, by, when, taken_at, probability = cells
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
            as_text(bin_),
            as_text(site),
            as_text(by),
            as_text(when),
            as_text(taken_at),
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


def _each_once(lists: Iterable[Sequence[Recount]]) -> Iterable[list[Recount]]:
    """The lists, without what a later one holds too: the same line of the same audit."""
    latest: dict[tuple[object, ...], tuple[int, Recount]] = {}
    for number, recounts in enumerate(lists):
        for one in recounts:
            latest[one.file, one.recorded, one.why, one.chance, one.probability] = number, one
    by_list: dict[int, list[Recount]] = {}
    for number, one in latest.values():
        by_list.setdefault(number, []).append(one)
    return by_list.values()


def known(lists: Iterable[Sequence[Recount]]) -> Known | None:
    """What all lists say, over all and by site; None where nothing random was counted."""
    each = [list(recounts) for recounts in lists]
    overall = estimate(each)
    if overall is None:
        return None
    sites = {one.site for recounts in each for one in recounts if one.site}
    found = {site: estimate([[one for one in recounts if one.site == site] for recounts in each]) for site in sites}
    return Known(overall, {site: one for site, one in found.items() if one is not None and one.is_enough})


def estimate(lists: Iterable[Sequence[Recount]]) -> Estimate | None:
    """How often records are wrong, from the lists of several audits; None where nothing random was counted.

    A list that was given again, filled in further or with moves, counts once.
    """
    ranked, random = [], []
    bins = others = 0.0
    for recounts in _each_once(lists):
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
