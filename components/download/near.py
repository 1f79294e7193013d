"""Near-identical photos by perceptual hash.

The hash is the difference hash of N. Krawetz, "Kind of Like That" (2013), at 16×16: bit (y, x) says whether the photo
gets brighter from x to x + 1. In the real sample of 10,000 photos all 41 pairs within NEAR_BITS of 256 bits are ids at
most 2 apart, that is, the same pod photographed again; unrelated photos differ in 125 bits in the median.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

HASH_SIDE = 17
HASH_BITS = 256
NEAR_BITS = 40

# Photos that agree in all bits of one of BANDS random choices of BAND_BITS bits are compared. Of pairs that differ in
# NEAR_BITS bits this finds 1 - (1 - (1 - 40/256)^16)^64 = 99 %, of closer ones more.
BANDS = 64
BAND_BITS = 16

_LUMA = np.array([299, 587, 114], np.int32)  # ITU-R BT.601, in thousandths


def perceptual_hash(pixels: NDArray[np.uint8]) -> bytes:
    """Difference hash of a photo given as HASH_SIDE×HASH_SIDE×3 RGB; 32 bytes."""
    grey = pixels.astype(np.int32) @ _LUMA
    return np.packbits(grey[:-1, :-1] < grey[:-1, 1:]).tobytes()


def near_pairs(hashes: Sequence[bytes]) -> list[tuple[int, int]]:
    """Pairs of places, the smaller first, whose hashes differ in NEAR_BITS bits or fewer; sorted."""
    if len(hashes) < 2:
        return []
    packed = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1)
    words = packed.view(np.uint64)
    random = np.random.default_rng(0)
    found: set[tuple[int, int]] = set()
    for _ in range(BANDS):
        band = _band(packed, random.choice(HASH_BITS, BAND_BITS, replace=False))
        for one, other in _equal(band):
            near = np.bitwise_count(words[one] ^ words[other]).sum(axis=1) <= NEAR_BITS
            found.update(zip(*(np.sort(np.stack([one[near], other[near]]), axis=0).tolist()), strict=True))
    return sorted(found)


def count_by_side(pairs: Sequence[tuple[int, int]], sides: Sequence[str]) -> dict[str, int]:
    """Number of pairs by the subsets they stand in, written `train-test`; pairs inside one subset as `train`."""
    counts: Counter[str] = Counter()
    for one, other in pairs:
        counts["-".join(sorted({sides[one], sides[other]}, key=("train", "validation", "test").index))] += 1
    return dict(sorted(counts.items()))


def _band(packed: NDArray[np.uint8], bits: NDArray[np.int64]) -> NDArray[np.uint16]:
    band = np.zeros(len(packed), np.uint16)
    for place, bit in enumerate(bits):
        band |= ((packed[:, bit // 8] >> (7 - bit % 8)) & 1).astype(np.uint16) << np.uint16(place)
    return band


def _equal(band: NDArray[np.uint16]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of places with equal values, in portions no larger than the band."""
    order = np.argsort(band, kind="stable")
    ordered = band[order]
    apart = 1
    while apart < len(ordered):
        equal = np.flatnonzero(ordered[:-apart] == ordered[apart:])
        if not len(equal):
            return
        yield order[equal], order[equal + apart]
        apart += 1
