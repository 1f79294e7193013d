"""Near-identical photos by perceptual hash.

The hash is the difference hash of N. Krawetz, "Kind of Like That" (2013), at 16×16: bit (y, x) says whether the photo
gets brighter from x to x + 1. In the real sample of 10,000 photos all 41 pairs within NEAR_BITS of 256 bits are ids at
most 2 apart, that is, the same pod photographed again; unrelated photos differ in 125 bits in the median. Other photos
may be alike by nature, as drawn bins are: then fewer bits have to do, so that chance makes few pairs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_SIDE = 17
HASH_BITS = 256
NEAR_BITS = 40
SAME_BITS = 8  # no more than storing a photo once more changes
CHANCE_SHARE = 1 / 200  # pairs by chance for each photo

# Photos that agree in all bits of one of BANDS random choices of BAND_BITS bits are compared. Of pairs that differ in
# NEAR_BITS bits this finds 1 - (1 - (1 - 40/256)^16)^64 = 99 %, of closer ones more. Where very many agree, each is
# compared with the NEIGHBOURS next to it only, so that work and memory grow with the number of photos alone.
BANDS = 64
BAND_BITS = 16
NEIGHBOURS = 32
_SAMPLED_PAIRS = 500_000
_FAR = 5  # places apart in the order of the ids: no longer the same pod

_LUMA = np.array([299, 587, 114], np.int32)  # ITU-R BT.601, in thousandths


def perceptual_hash(pixels: NDArray[np.uint8]) -> bytes:
    """Difference hash of a photo given as HASH_SIDE×HASH_SIDE×3 RGB; 32 bytes."""
    grey = pixels.astype(np.int32) @ _LUMA
    return np.packbits(grey[:-1, :-1] < grey[:-1, 1:]).tobytes()


def near_limit(hashes: Sequence[bytes]) -> int:
    """How many bits near-identical photos may differ in, for hashes in the order of the photos' ids.

    NEAR_BITS, or fewer where so many pairs of photos far apart differ in no more that they must be alike by chance.
    """
    number = len(hashes)
    words = _words(hashes)
    random = np.random.default_rng(0)
    one, other = random.integers(0, max(number, 1), (2, _SAMPLED_PAIRS)) if number else np.zeros((2, 0), np.int64)
    far = abs(one - other) > _FAR
    if not far.any():
        return NEAR_BITS
    distances = np.bitwise_count(words[one[far]] ^ words[other[far]]).sum(axis=1)
    within = np.cumsum(np.bincount(distances, minlength=HASH_BITS + 1))[: NEAR_BITS + 1] / far.sum()
    allowed = np.flatnonzero(within * number**2 / 2 <= CHANCE_SHARE * number)
    return max(SAME_BITS, int(allowed[-1])) if len(allowed) else SAME_BITS


def near_groups(hashes: Sequence[bytes], limit: int = NEAR_BITS) -> list[list[int]]:
    """Places of photos that are near-identical to another of their group (`limit` bits or fewer apart), in order."""
    if len(hashes) < 2:
        return []
    packed, inverse = np.unique(
        np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1), axis=0, return_inverse=True
    )
    words = np.ascontiguousarray(packed).view(np.uint64)
    random = np.random.default_rng(0)
    labels = np.arange(len(packed))
    for _ in range(BANDS):
        band = _band(packed, random.choice(HASH_BITS, BAND_BITS, replace=False))
        for one, other in _equal(band):
            new = labels[one] != labels[other]
            one, other = one[new], other[new]
            near = np.bitwise_count(words[one] ^ words[other]).sum(axis=1) <= limit
            if near.any():
                labels = _joined(labels, one[near], other[near])
    of_photo = labels[inverse.reshape(-1)]
    order = np.argsort(of_photo, kind="stable")
    starts = np.flatnonzero(np.diff(of_photo[order], prepend=-1))
    return sorted(group.tolist() for group in np.split(order, starts[1:]) if len(group) > 1)


def count_by_side(groups: Sequence[Sequence[int]], sides: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Numbers of groups and of their photos, by the subsets they stand in, written `train-test`, or `train` for one."""
    groups_of: Counter[str] = Counter()
    photos_of: Counter[str] = Counter()
    for group in groups:
        name = name_of_sides(group, sides)
        groups_of[name] += 1
        photos_of[name] += len(group)
    return {name: (groups_of[name], photos_of[name]) for name in sorted(groups_of)}


def name_of_sides(group: Sequence[int], sides: Sequence[str]) -> str:
    """The subsets of a group's photos, written `train-test`."""
    return "-".join(sorted({sides[place] for place in group}, key=("train", "validation", "test").index))


def _words(hashes: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(len(hashes), -1)


def _joined(labels: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels after each `one` was put into the group of its `other`."""
    number = len(labels)
    edges = coo_array((np.ones(len(one), np.bool_), (labels[one], labels[other])), shape=(number, number))
    return connected_components(edges, directed=False)[1].astype(np.int64)[labels]


def _band(packed: NDArray[np.uint8], bits: NDArray[np.int64]) -> NDArray[np.uint16]:
    band = np.zeros(len(packed), np.uint16)
    for place, bit in enumerate(bits):
        band |= ((packed[:, bit // 8] >> (7 - bit % 8)) & 1).astype(np.uint16) << np.uint16(place)
    return band


def _equal(band: NDArray[np.uint16]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of places with equal values, at most NEIGHBOURS for each place, in portions no larger than the band."""
    order = np.argsort(band, kind="stable")
    ordered = band[order]
    for apart in range(1, min(NEIGHBOURS, len(ordered) - 1) + 1):
        equal = np.flatnonzero(ordered[:-apart] == ordered[apart:])
        if not len(equal):
            return
        yield order[equal], order[equal + apart]
