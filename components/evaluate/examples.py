"""The bins that the report shows: the surest mistakes, and beside them the surest right answers of every count."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from components.core.predictions import PredictedBatch

MISTAKES = 12
RIGHT_ANSWERS = 10  # shared out among the counts, at least one of each


@dataclass(frozen=True, order=True)
class Example:
    """A test bin, what the model said of it, and how sure it was of that."""

    confidence: float
    file: str
    quantity: int
    count: int
    jpeg: bytes = field(repr=False)


class Examples:
    """Collects examples batch by batch; memory holds no more photos than are shown."""

    def __init__(self, max_count: int) -> None:
        self.mistakes: list[Example] = []  # the surest first
        self._right: dict[int, list[Example]] = {count: [] for count in range(1, max_count + 1)}

    @property
    def right(self) -> list[Example]:
        """Right answers by count, the surest of each first."""
        return [one for found in self._right.values() for one in found]

    def add(self, batch: PredictedBatch, table: pd.DataFrame) -> None:
        """Look at a batch; `table` has its file, quantity, subset and count in the same order."""
        of_each = max(1, RIGHT_ANSWERS // len(self._right))
        for one in _test_bins(batch, table):
            if one.count != one.quantity:
                self.mistakes = heapq.nlargest(MISTAKES, [*self.mistakes, one])
            else:
                self._right[one.count] = heapq.nlargest(of_each, [*self._right[one.count], one])


def _test_bins(batch: PredictedBatch, table: pd.DataFrame) -> Iterator[Example]:
    confidence = batch.prediction.scores.max(axis=1)
    quantity, count = table["quantity"].to_numpy(), table["count"].to_numpy()
    files = table["file"].to_numpy()
    for row in np.flatnonzero((table["subset"] == "test").to_numpy()):
        yield Example(float(confidence[row]), str(files[row]), int(quantity[row]), int(count[row]), batch.jpegs[row])
