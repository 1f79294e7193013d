"""What the endpoint says of a photo."""

from dataclasses import dataclass

import numpy as np

from components.core.runtime import Prediction


@dataclass(frozen=True)
class Photo:
    """One photo to count: the bytes of the image file, and the quantity on record if the caller gave one."""

    data: bytes
    recorded_quantity: int | None = None


@dataclass(frozen=True)
class Answer:
    """The count of one photo. `scores[k - 1]` is the probability of k items, given that there are 1…len(scores)."""

    count: int
    scores: tuple[float, ...]
    expected_count: float
    out_of_range: float | None
    mismatch_probability: float | None = None


def mismatch_probability(quantity: int, scores: tuple[float, ...], out_of_range: float | None) -> float:
    """Probability that a bin does not hold `quantity` items.

    With s the scores and o the probability of 0 or more than K = len(scores) items (0 where the model knows no such
    bins), P(holds q) = (1 - o)·s[q] for q in 1…K. How o is shared between 0 and each quantity beyond K is unknown, so
    for any other quantity this is the probability 1 - o that the bin is in range: a lower bound of the mismatch.
    """
    in_range = 1.0 - (out_of_range or 0.0)
    holds = in_range * scores[quantity - 1] if 1 <= quantity <= len(scores) else 1.0 - in_range
    return min(max(1.0 - holds, 0.0), 1.0)


def answers_of(prediction: Prediction, quantities: list[int | None]) -> list[Answer]:
    """Answers to N photos, given the quantities on record."""
    scores = prediction.scores.astype(np.float64).tolist()
    outside = [None] * len(scores) if prediction.out_of_range is None else prediction.out_of_range.tolist()
    answers = []
    for row, count, expected, out_of_range, quantity in zip(
        scores, prediction.counts.tolist(), prediction.expected_counts.tolist(), outside, quantities, strict=True
    ):
        mismatch = None if quantity is None else mismatch_probability(quantity, tuple(row), out_of_range)
        answers.append(Answer(count, tuple(row), expected, out_of_range, mismatch))
    return answers
