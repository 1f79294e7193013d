"""What a model says of bins as a camera sends them, kept in the bundle so that the endpoint can see a change later.

Drift is told as a multiple of what chance explains: the recent answers are a sample, and so is the baseline. Chance is
held to explain what one window in 1 / CHANCE of an unchanged warehouse would show.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

CHANCE = 1e-4
MEAN_LIMIT = 3.89  # standard errors: the two-sided point of the normal distribution at CHANCE


class DriftBaseline(BaseModel):
    """Answers on validation-block bins of every count, none of which was trained on.

    `counts` says how often each count was the answer, and `counts_limit` is the point of the chi-square variable of as
    many counts at CHANCE; `out_of_range_mean` and `out_of_range_deviation` are those of the probability that a bin is
    out of range, None for a model that knows no such bins.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: tuple[int, ...]
    counts_limit: float = Field(gt=0)
    out_of_range_mean: float | None = None
    out_of_range_deviation: float | None = Field(None, ge=0)

    @property
    def bins(self) -> int:
        """How many bins it rests on."""
        return sum(self.counts)

    @classmethod
    def of(cls, scores: NDArray[np.floating], out_of_range: NDArray[np.floating] | None) -> "DriftBaseline":
        """From scores N×max_count and, where the model gives it, the probability N of being out of range."""
        from scipy.stats import chi2  # here, because the server reads what was computed and has no scipy

        counts = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1])
        return cls(
            counts=tuple(counts.tolist()),
            counts_limit=float(chi2.isf(CHANCE, max(1, scores.shape[1] - 1))),
            out_of_range_mean=None if out_of_range is None else float(out_of_range.mean()),
            out_of_range_deviation=None if out_of_range is None else float(out_of_range.std()),
        )

    def counts_drift(self, recent: Sequence[int]) -> float:
        """How far a histogram of recent counts is from the baseline's, in multiples of what chance explains.

        The population stability index Σ (o - e)·ln(o / e) of two samples of one distribution is (1/n + 1/m) times a
        chi-square variable (Yurdakul and Naranjo, Journal of Risk Model Validation 2020). Half an observation is added
        to every cell, so that an empty one does not make it infinite. NaN when either is empty.
        """
        if not self.bins or not sum(recent):
            return float("nan")
        expected, observed = (
            (np.asarray(histogram) + 0.5) / (sum(histogram) + 0.5 * len(self.counts))
            for histogram in (self.counts, recent)
        )
        index = float(((observed - expected) * np.log(observed / expected)).sum())
        return index / ((1 / self.bins + 1 / sum(recent)) * self.counts_limit)

    def out_of_range_drift(self, total: float, number: int) -> float:
        """How far the mean of `number` probabilities, which sum to `total`, is from the baseline's, likewise.

        A two-sample z test with the baseline's deviation. NaN without bins on either side or for a model without it.
        """
        if self.out_of_range_mean is None or self.out_of_range_deviation is None or not self.bins or not number:
            return float("nan")
        error = max(self.out_of_range_deviation, 1e-3) * np.sqrt(1 / self.bins + 1 / number)
        return float(abs(total / number - self.out_of_range_mean) / (error * MEAN_LIMIT))
