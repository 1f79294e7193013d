"""Figures that say how well wrong records are found among right ones: pure functions, and their part of metrics.json.

A recount list is every bin, the likeliest wrong records first. Records that cannot be judged come last, in any order,
and count in every denominator.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from components.core.intervals import Interval

SHARES = (0.05, 0.1, 0.2)  # of all bins, that are recounted first
FIRST_TENTH = 1  # its place in SHARES

# Ways to put records in order.
WHOLE = "photo and whole record"
WHOLE_WITHOUT_PHOTO = "whole record without the photo"
QUANTITY = "photo and quantity"
QUANTITY_WITHOUT_PHOTO = "quantity alone"
PHOTO = "photo alone"
RANDOM = "random"

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Spread(BaseModel):
    """A figure over draws of errors: its mean and standard deviation, and the middle 95 % with resampled blocks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    deviation: float
    interval: Interval

    @classmethod
    def of(cls, draws: Sequence[float], resampled: Sequence[float]) -> "Spread":
        """Of the values of the draws, and of those that resampling the blocks gave."""
        low, high = np.quantile(resampled, (0.025, 0.975))
        return cls(mean=float(np.mean(draws)), deviation=float(np.std(draws)), interval=(float(low), float(high)))


class Ranking(BaseModel):
    """How one way to order a recount list fares. `found` are shares of all wrong records, by SHARES.

    `half` is the share of all bins to recount until half of the wrong records are found. `auc` is over the records that
    can be judged: the probability that a wrong one is ranked before a right one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str
    auc: Spread
    found: tuple[Spread, ...]
    half: Spread


class ErrorKindFigures(BaseModel):
    """Rankings where all wrong records are of one kind, or a mixture; `wrong` and `unjudged` are means of the draws."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    wrong: float
    unjudged: float  # wrong or right
    rankings: tuple[Ranking, ...]


class ErrorRateFigures(BaseModel):
    """Whether probabilities hold where a share `rate` of the records is wrong and the model was told so.

    `brier` and `constant` are mean squared errors, over the records that can be judged, of the probabilities and of
    always saying `rate`. `expected` and
    `found` are numbers of wrong records among the first SHARES of the list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: float
    brier: Spread
    constant: Spread
    expected: tuple[float, ...]
    found: tuple[float, ...]


class CountingFigures(BaseModel):
    """How often a count is right, and its error in items, on bins in range whose products are known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str
    accuracy: float
    rmse: float
    lead: Interval | None = None  # of photo and list together: 95 % interval of how much oftener they are right


class SetFigures(BaseModel):
    """How many sets hold the true count, and how many classes a set holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str
    bins: int
    coverage: float
    size: float


class RecordFigures(BaseModel):
    """What photo and record say together, on held-out bins of every count with errors drawn into their records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bins: int
    draws: int
    error_rate: float
    kinds: tuple[ErrorKindFigures, ...]  # the mixture first
    rates: tuple[ErrorRateFigures, ...]
    recount_from: float  # a mismatch probability, from which on a record is recounted …
    recounts_of_right: float  # … and which shares of the right and of the wrong records then are
    recounts_of_wrong: float
    counting: tuple[CountingFigures, ...] = ()
    sets: tuple[SetFigures, ...] = ()

    @property
    def ranked(self) -> tuple[Ranking, Ranking]:
        """Of the mixture of errors: the best order that photo and record give, and the record's without the photo."""
        ways = {one.by: one for one in self.kinds[0].rankings}
        both = (WHOLE, WHOLE_WITHOUT_PHOTO) if WHOLE in ways else (QUANTITY, QUANTITY_WITHOUT_PHOTO)
        return ways[both[0]], ways[both[1]]


@dataclass(frozen=True)
class RankedList:
    """A recount list: whether each record is wrong, the first to recount first; `judged` of them are in earnest."""

    wrong: Flags
    auc: float

    @classmethod
    def of(cls, wrong: Flags, score: Array, random: np.random.Generator) -> "RankedList":
        """Order N records by score, equals by chance; a score of NaN cannot be judged."""
        judged = ~np.isnan(score)
        order = random.permutation(len(score))
        order = order[np.argsort(-np.where(judged, score, -np.inf)[order], kind="stable")]
        return cls(wrong[order], _auc(wrong[judged], score[judged]))

    @property
    def found(self) -> tuple[float, ...]:
        """Shares of all wrong records among the first SHARES."""
        total = max(1, int(self.wrong.sum()))
        return tuple(float(self.wrong[: round(share * len(self.wrong))].sum() / total) for share in SHARES)

    @property
    def half(self) -> float:
        """Share of all bins until half of the wrong records are found."""
        needed = -(-int(self.wrong.sum()) // 2)
        return float((np.searchsorted(self.wrong.cumsum(), needed) + 1) / len(self.wrong)) if needed else 0.0


def _auc(wrong: Flags, score: Array) -> float:
    """The area under the ROC curve by ranks (Mann and Whitney 1947); 0.5 where there is only one kind."""
    positive, negative = int(wrong.sum()), int((~wrong).sum())
    if not positive or not negative:
        return 0.5
    from scipy.stats import rankdata  # takes a second that those who only read figures need not wait for

    ranks = rankdata(score)[wrong].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))
