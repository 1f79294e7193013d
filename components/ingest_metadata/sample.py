"""LIMIT: a seeded sample of whole id blocks, so that a small run sees neighbours as the whole would."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from components.core.records import Block, block_of


@dataclass(frozen=True)
class Sample:
    """`quota` many bins of each drawn block, `total` in all."""

    quota: dict[Block, int]
    total: int

    def admission(self) -> Callable[[str], bool]:
        """Says of each id, asked once and in the source's order, whether it is part of the sample."""
        left = dict(self.quota)

        def admits(image_id: str) -> bool:
            block = block_of(image_id)
            if not left.get(block):
                return False
            left[block] -= 1
            return True

        return admits


def draw_sample(image_ids: Iterable[str], limit: int, seed: int) -> Sample:
    """Draw blocks in the order of a hash of seed and block until they hold `limit` bins; the last block is cut."""
    sizes = Counter(block_of(image_id) for image_id in image_ids)
    quota: dict[Block, int] = {}
    left = limit
    for block in sorted(sizes, key=lambda block: _rank(block, seed)):
        if left == 0:
            break
        quota[block] = min(left, sizes[block])
        left -= quota[block]
    return Sample(quota, limit - left)


def _rank(block: Block, seed: int) -> bytes:
    return hashlib.sha256(f"limit {seed} {block.padded} {block.number}".encode()).digest()
