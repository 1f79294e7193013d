"""Intervals that say how far a share may be off."""

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

NORMAL_95 = 1.959964  # the 97.5 % point of the normal distribution


def proportion_interval(right: int, of: int) -> Interval:
    """95 % interval of a share by Wilson's score (1927), which keeps its width where all or none are right."""
    from scipy.stats import binomtest

    interval = binomtest(right, of).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def paired_interval(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> Interval:
    """95 % interval of how much oftener ours is right than theirs, on the same N bins.

    Wald's interval after half a bin was added to each of the four cells (Agresti and Min, Statistics in Medicine 2005).
    Most bins are easy or hard for both, so this is narrower than what two separate intervals would allow to say.
    """
    only_ours, only_theirs = (ours & ~theirs).sum() + 0.5, (theirs & ~ours).sum() + 0.5
    of = len(ours) + 2
    difference = (only_ours - only_theirs) / of
    error = np.sqrt((only_ours + only_theirs) / of - difference**2) / np.sqrt(of)
    half_width = NORMAL_95 * error
    return float(difference - half_width), float(difference + half_width)
