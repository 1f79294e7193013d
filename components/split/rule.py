"""Which subset a unit belongs to: a function of seed and unit alone, so new bins move nobody.

A unit is a block of neighbouring ids, or where the source says what belongs together, a group of bins.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from components.core.records import Block

# Every run of so many blocks is dealt out as a whole, so that each subset gets its share of every stretch of ids.
BLOCKS_DEALT = 10

Unit = Block | str


class Rule(Protocol):
    """Says where a unit goes."""

    @property
    def validation_share(self) -> float:
        """Share of the bins."""
        ...

    @property
    def test_share(self) -> float:
        """Share of the bins."""
        ...

    def subset(self, unit: Unit) -> str:
        """`train`, `validation` or `test`."""
        ...


@dataclass(frozen=True)
class HashRule:
    """Seed and shares of the split. The training subset gets what validation and test leave."""

    seed: int
    validation_share: float
    test_share: float

    def subset(self, unit: Unit) -> str:
        """`train`, `validation` or `test`."""
        if isinstance(unit, str):
            place = _score(f"split {self.seed} group {unit}") / 2**64
        else:
            order, offset = _deal(self.seed, unit.padded, unit.number // BLOCKS_DEALT)
            place = (order[unit.number % BLOCKS_DEALT] + offset) / BLOCKS_DEALT
        if place < self.test_share:
            return "test"
        return "validation" if place < self.test_share + self.validation_share else "train"


@dataclass(frozen=True)
class RankedRule:
    """For so few units that a hash may leave a subset empty: units at hand are ranked and dealt out in turn.

    New bins may move others. Units that are not ranked go where the hash sends them.
    """

    rest: HashRule
    places: Mapping[Unit, str]

    @property
    def validation_share(self) -> float:
        """The share that validation gets at least."""
        return self.rest.validation_share

    @property
    def test_share(self) -> float:
        """The share that test gets at least."""
        return self.rest.test_share

    def subset(self, unit: Unit) -> str:
        """`train`, `validation` or `test`."""
        return self.places.get(unit) or self.rest.subset(unit)


def ranked(rule: HashRule, sizes: Mapping[Unit, int], attempt: int) -> RankedRule:
    """Deal units out by the hash of seed, attempt and unit: test and validation in turn get units until they have their
    share of the bins (`sizes` of each unit), one at least, and train the rest."""
    order = sorted(sizes, key=lambda unit: _score(f"rank {rule.seed} {attempt} {unit}"))
    total = sum(sizes.values())
    places: dict[Unit, str] = {}
    for subset, share in (("test", rule.test_share), ("validation", rule.validation_share)):
        held = 0
        while order and held < share * total:
            unit = order.pop()
            places[unit] = subset
            held += sizes[unit]
    return RankedRule(rule, places | dict.fromkeys(order, "train"))


@lru_cache(maxsize=1 << 16)
def _deal(seed: int, padded: bool, run: int) -> tuple[tuple[int, ...], float]:
    """Rank of each block of a run, and a common offset in [0, 1) that rounds shares fairly over many runs."""
    scores = [_score(f"split {seed} {padded} {run} {place}") for place in range(BLOCKS_DEALT)]
    ranking = sorted(range(BLOCKS_DEALT), key=scores.__getitem__)
    ranks = tuple(ranking.index(place) for place in range(BLOCKS_DEALT))
    return ranks, _score(f"split {seed} {padded} {run} {BLOCKS_DEALT}") / 2**64


def _score(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
