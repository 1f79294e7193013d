"""Totals over a records table of any size, in one pass and with memory that hardly grows."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.core.records import PADDED_DIGITS, iterate_records

NEIGHBOUR_DISTANCES = (1, 2, 3, 5, 10, 20)


@dataclass
class Totals:
    """What the exploration draws."""

    bins: int = 0
    quantities: Counter[int] = field(default_factory=Counter)
    products: Counter[int] = field(default_factory=Counter)
    products_by_items: Counter[tuple[int, int]] = field(default_factory=Counter)
    inconsistent: int = 0
    weights: list[NDArray[np.float32]] = field(default_factory=list)
    volumes: list[NDArray[np.float32]] = field(default_factory=list)
    shared_contents: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def contents_known(self) -> bool:
        """Whether the source said what is in the bins."""
        return bool(self.products)

    def share_up_to(self, max_count: int) -> float:
        """Share of bins with `max_count` items or fewer."""
        return sum(bins for quantity, bins in self.quantities.items() if quantity <= max_count) / self.bins


def total_up(records_path: Path) -> Totals:
    """Read the table once."""
    totals = Totals()
    numbers, hashes = [], []
    for batch in iterate_records(records_path):
        totals.bins += len(batch)
        totals.quantities.update(Counter(batch["quantity"].tolist()))
        known = batch.dropna(subset=["products"])
        totals.products.update(Counter(known["products"].astype(int).tolist()))
        totals.products_by_items.update(
            Counter(zip(known["quantity"].tolist(), known["products"].astype(int).tolist(), strict=True))
        )
        totals.inconsistent += int((batch["consistent"] == False).sum())  # noqa: E712 - null is neither
        totals.weights.append(batch["weight"].dropna().to_numpy(np.float32))
        totals.volumes.append(batch["volume"].dropna().to_numpy(np.float32))
        number, contents = _neighbourhood(batch)
        numbers.append(number)
        hashes.append(contents)
    if totals.contents_known:
        totals.shared_contents = _shared(np.concatenate(numbers), np.concatenate(hashes))
    return totals


def _neighbourhood(batch: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Numbers of the padded ids whose contents are known, and these as 64-bit hashes: 16 bytes a bin."""
    padded = batch["image_id"].str.len() >= PADDED_DIGITS
    chosen = batch[padded & (batch["contents"] != "")]
    hashes = np.fromiter((int(each, 16) for each in chosen["contents"]), np.uint64, len(chosen))
    return np.array(chosen["image_id"].astype(int), np.int64), hashes


def _shared(numbers: NDArray[np.int64], hashes: NDArray[np.uint64]) -> dict[int, tuple[int, int]]:
    """By distance between ids: pairs that hold exactly the same, and pairs in all."""
    order = np.argsort(numbers)
    numbers, hashes = numbers[order], hashes[order]
    shared = {}
    for distance in NEIGHBOUR_DISTANCES:
        place = np.searchsorted(numbers, numbers + distance)
        place[place == len(numbers)] = 0
        pair = numbers[place] == numbers + distance
        shared[distance] = (int((hashes[place] == hashes)[pair].sum()), int(pair.sum()))
    return shared
