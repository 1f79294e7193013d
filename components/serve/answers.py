"""What the endpoint says of a photo."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.core.contents import BinRecord
from components.core.posterior import RecordModel
from components.core.runtime import Prediction


@dataclass(frozen=True)
class Photo:
    """One photo to count: the bytes of the image file, and what is on record if the caller told."""

    data: bytes
    record: BinRecord | None = None


@dataclass(frozen=True)
class Answer:
    """The count of one photo. `scores[k - 1]` is the probability of k items, given that there are 1…len(scores).

    What is said of a record is None where `has_record` is False, and where it cannot be said.
    """

    count: int
    scores: tuple[float, ...]
    expected_count: float
    out_of_range: float | None
    has_record: bool = False
    mismatch_probability: float | None = None
    photo_mismatch: float | None = None
    likeliest_count: int | None = None


@dataclass(frozen=True)
class Judge:
    """Judges records: by the bundle's model of them, or by the photo alone where it has none.

    `error_rate` is the share of records that are wrong, the model's own if None.
    """

    model: RecordModel | None
    error_rate: float | None = None

    def answers(self, prediction: Prediction, records: list[BinRecord | None]) -> list[Answer]:
        """Answers to N photos, given what is on record of each."""
        rows = prediction.scores.astype(np.float64).tolist()
        outside = [None] * len(rows) if prediction.out_of_range is None else prediction.out_of_range.tolist()
        classes = prediction.classes if any(records) else None
        answers = []
        for place, (row, count, expected, out_of_range, record) in enumerate(
            zip(rows, prediction.counts.tolist(), prediction.expected_counts.tolist(), outside, records, strict=True)
        ):
            answer = Answer(count, tuple(row), expected, out_of_range)
            if record is not None:
                answer = self._with_record(answer, record, None if classes is None else classes[place])
            answers.append(answer)
        return answers

    def _with_record(self, answer: Answer, record: BinRecord, classes: NDArray[np.float64] | None) -> Answer:
        mismatch, likeliest = None, None
        if self.model is not None and classes is not None:
            judged = self.model.judged(classes, record, self.error_rate)
            mismatch, likeliest = judged.mismatch, judged.likeliest
        return Answer(
            answer.count,
            answer.scores,
            answer.expected_count,
            answer.out_of_range,
            True,
            mismatch,
            photo_mismatch(record.quantity, answer.scores, answer.out_of_range, classes),
            likeliest,
        )


def photo_mismatch(
    quantity: int, scores: tuple[float, ...], out_of_range: float | None, classes: NDArray[np.float64] | None
) -> float | None:
    """Probability, by the photo alone, that a bin does not hold `quantity` items.

    With s the scores and o the probability of 0 or more than K = len(scores) items (0 where the model knows no such
    bins), P(holds q) = (1 - o)·s[q] for q in 1…K. For 0 it is the first of `classes`, where the model tells it. None
    where the model does not say.
    """
    if 1 <= quantity <= len(scores):
        holds = (1.0 - (out_of_range or 0.0)) * scores[quantity - 1]
    elif quantity == 0 and classes is not None:
        holds = float(classes[0])
    else:
        return None
    return min(max(1.0 - holds, 0.0), 1.0)
