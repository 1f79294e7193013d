"""The leak check: what the subsets of a split share in spite of the rule, counted."""

from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from components.core.records import block_of

SIDES = ("train", "validation", "test")
NEAR = 2  # ids further apart than this share no product in the real sample


class LeakCheck(BaseModel):
    """By pair of subsets, written `train-test`; extra bins count to the side they may be used on."""

    model_config = ConfigDict(frozen=True)

    shared_contents: dict[str, int]  # contents that stand on both sides
    neighbours: dict[str, int]  # pairs of ids at most NEAR apart with one on each side
    contents_known: bool


def check_leaks(splits: pd.DataFrame) -> LeakCheck:
    """Count over a split with columns as in SPLITS_SCHEMA."""
    known = splits[splits["contents"] != ""]
    contents = {side: set(known["contents"][known["block_subset"] == side]) for side in SIDES}
    pairs = list(combinations(SIDES, 2))
    return LeakCheck(
        shared_contents={f"{one}-{other}": len(contents[one] & contents[other]) for one, other in pairs},
        neighbours=_neighbours(splits),
        contents_known=not known.empty,
    )


def _neighbours(splits: pd.DataFrame) -> dict[str, int]:
    counts: Counter[str] = Counter({f"{one}-{other}": 0 for one, other in combinations(SIDES, 2)})
    padded = np.array([block_of(image_id).padded for image_id in splits["image_id"]], dtype=bool)
    for series in (padded, ~padded):
        numbers = splits["image_id"][series].astype(np.int64).to_numpy()
        sides = splits["block_subset"][series].map({side: place for place, side in enumerate(SIDES)}).to_numpy()
        order = np.argsort(numbers)
        numbers, sides = numbers[order], sides[order]
        for distance in range(1, NEAR + 1):
            place = np.minimum(np.searchsorted(numbers, numbers + distance), max(len(numbers) - 1, 0))
            across = (numbers[place] == numbers + distance) & (sides[place] != sides)
            for one, other in zip(sides[across], sides[place][across], strict=True):
                low, high = sorted((int(one), int(other)))
                counts[f"{SIDES[low]}-{SIDES[high]}"] += 1
    return dict(counts)
