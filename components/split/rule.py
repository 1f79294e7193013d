"""Which subset a block of neighbouring ids belongs to: a function of seed and block alone, so new bins move nobody."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from components.core.records import Block

# Every run of so many blocks is dealt out as a whole, so that each subset gets its share of every stretch of ids.
BLOCKS_DEALT = 10


@dataclass(frozen=True)
class BlockRule:
    """Seed and shares of the split. The training subset gets what validation and test leave."""

    seed: int
    validation_share: float
    test_share: float

    def subset(self, block: Block) -> str:
        """`train`, `validation` or `test`."""
        order, offset = _deal(self.seed, block.padded, block.number // BLOCKS_DEALT)
        place = (order[block.number % BLOCKS_DEALT] + offset) / BLOCKS_DEALT
        if place < self.test_share:
            return "test"
        return "validation" if place < self.test_share + self.validation_share else "train"


@lru_cache(maxsize=1 << 16)
def _deal(seed: int, padded: bool, run: int) -> tuple[tuple[int, ...], float]:
    """Rank of each block of a run, and a common offset in [0, 1) that rounds shares fairly over many runs."""
    scores = [_score(seed, padded, run, place) for place in range(BLOCKS_DEALT)]
    ranking = sorted(range(BLOCKS_DEALT), key=scores.__getitem__)
    ranks = tuple(ranking.index(place) for place in range(BLOCKS_DEALT))
    return ranks, _score(seed, padded, run, BLOCKS_DEALT) / 2**64


def _score(seed: int, padded: bool, run: int, place: int) -> int:
    name = f"split {seed} {padded} {run} {place}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8])
