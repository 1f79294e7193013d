"""Figures that say how well counts were predicted: pure functions of arrays, and the model of metrics.json.

Throughout, `truth` holds N integer counts from 1 to K, and `scores` N×K probabilities; column j stands for count j+1.
"""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from components.core.intervals import Interval, proportion_interval
from components.core.record_metrics import RecordFigures

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]

CALIBRATION_BINS = 15
RESAMPLES = 2000
# A score of 0 for the true count would make the loss infinite.
SMALLEST_SCORE = 1e-12

Share = Annotated[float, Field(ge=0, le=1)]


class ClassFigures(BaseModel):
    """How one count fared: `support` bins truly hold it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Share
    recall: Share
    f1: Share
    support: int


class OutOfRangeFigures(BaseModel):
    """How well bins with 0 or more than max_count items are told from the others, on bins nothing was fitted on.

    `auc` is the area under the ROC curve; precision and recall are those at a probability of 0.5.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    auc: Share
    precision: Share
    recall: Share
    n_in_range: int
    n_out_of_range: int


class Evaluation(BaseModel):
    """metrics.json. Losses in nats, errors in items, everything else a share from 0 to 1 (kappa from -1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_version: str = ""
    runtime: str = ""
    precision: str = ""
    accuracy: Share
    accuracy_ci95: Interval
    correct: int
    n_test: int
    loss: float
    mae: float
    rmse: float
    mae_expected: float
    rmse_expected: float
    within_one: Share
    quadratic_kappa: float
    ece: Share
    # What perfectly calibrated probabilities stay below on as many bins, 19 times in 20; none in figures of 0.1.0.
    ece_if_calibrated: Share | None = None
    baseline_accuracy: Share
    baseline_count: int
    baseline_mae: float
    baseline_rmse: float
    baseline_within_one: Share
    per_class: dict[str, ClassFigures]
    confusion: list[list[int]]
    out_of_range: OutOfRangeFigures | None = None
    records: RecordFigures | None = None


def evaluate_counts(truth: Counts, scores: Scores, seed: int = 0) -> Evaluation:
    """Every figure of metrics.json from N true counts and N×K scores. Raises ValueError when the two do not match."""
    if len(truth) == 0 or len(truth) != len(scores):
        raise ValueError(f"{len(truth)} true counts and {len(scores)} rows of scores cannot be compared")
    from sklearn.metrics import confusion_matrix  # here and below: takes two seconds that gate need not wait for

    labels = np.arange(1, scores.shape[1] + 1)
    predicted = most_probable(scores)
    expected = expected_counts(scores)
    right = predicted == truth
    commonest = commonest_count(truth)
    return Evaluation(
        accuracy=float(right.mean()),
        accuracy_ci95=proportion_interval(int(right.sum()), len(truth)),
        correct=int(right.sum()),
        n_test=len(truth),
        loss=float(log_losses(truth, scores).mean()),
        mae=float(np.abs(predicted - truth).mean()),
        rmse=float(np.sqrt(((predicted - truth) ** 2).mean())),
        mae_expected=float(np.abs(expected - truth).mean()),
        rmse_expected=float(np.sqrt(((expected - truth) ** 2).mean())),
        within_one=float((np.abs(predicted - truth) <= 1).mean()),
        quadratic_kappa=quadratic_kappa(truth, predicted, labels),
        ece=calibration_error(truth, scores),
        ece_if_calibrated=error_if_calibrated(scores, seed),
        baseline_accuracy=float((truth == commonest).mean()),
        baseline_count=commonest,
        baseline_mae=float(np.abs(commonest - truth).mean()),
        baseline_rmse=float(np.sqrt(((commonest - truth) ** 2).mean())),
        baseline_within_one=float((np.abs(commonest - truth) <= 1).mean()),
        per_class=per_class(truth, predicted, labels),
        confusion=confusion_matrix(truth, predicted, labels=labels).tolist(),
    )


def most_probable(scores: Scores) -> Counts:
    """The count with the highest score of each row."""
    return scores.argmax(axis=1).astype(np.int64) + 1


def expected_counts(scores: Scores) -> NDArray[np.float64]:
    """The mean of the predicted distribution of each row, in items."""
    return scores @ np.arange(1, scores.shape[1] + 1)


def commonest_count(truth: Counts) -> int:
    """The count that stands most often in `truth`, the smallest of equals."""
    return int(np.bincount(truth).argmax())


def log_losses(truth: Counts, scores: Scores) -> NDArray[np.float64]:
    """Cross-entropy of each row in nats: minus the logarithm of the true count's score."""
    return -np.log(np.maximum(scores[np.arange(len(truth)), truth - 1], SMALLEST_SCORE))


def quadratic_kappa(truth: Counts, predicted: Counts, labels: Counts) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 is perfect, 0 is what chance gives.

    When truth and prediction never vary kappa is undefined; then 1 if they agree and 0 if not.
    """
    if len(np.unique(np.concatenate([truth, predicted]))) == 1:
        return 1.0
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(truth, predicted, labels=labels, weights="quadratic"))


def calibration_error(truth: Counts, scores: Scores) -> float:
    """Expected calibration error of the most probable count (Guo et al. 2017), bins of equal width.

    The mean distance between how sure the model was and how often it was right, weighted by the bins' sizes.
    """
    confidence, right, size = reliability(truth, scores)
    return float(min(1.0, (size * np.abs(confidence - right)).sum() / len(truth)))


def error_if_calibrated(scores: Scores, seed: int = 0) -> float:
    """The 95 % point of the calibration error that these N×K scores would have if they were perfectly calibrated.

    By consistency resampling (Bröcker and Smith, Weather and Forecasting 2007): as many truths are drawn as there are
    rows, each right as often as the scores say. On few rows chance alone makes an error that is far from 0.
    """
    confidence, _, size = reliability(most_probable(scores), scores)
    drawn = np.random.default_rng(seed).binomial(size.astype(np.int64), confidence.clip(0, 1), (RESAMPLES, len(size)))
    errors = np.abs(size * confidence - drawn).sum(axis=1) / len(scores)
    return float(min(1.0, np.quantile(errors, 0.95)))


def believable(error: float, if_calibrated: float) -> str:
    """A sentence: whether the probabilities may be taken at their word, from their calibration error and chance's."""
    verdict = "can be believed" if error <= if_calibrated else "cannot be taken at their word"
    return f"Its probabilities {verdict}: they are off by {error:.1%}, where chance alone makes {if_calibrated:.1%}."


def reliability(truth: Counts, scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean confidence, share right, and number of rows, of each of CALIBRATION_BINS bins that holds any row."""
    confidence = scores.max(axis=1)
    right = (most_probable(scores) == truth).astype(np.float64)
    place = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    size = np.bincount(place, minlength=CALIBRATION_BINS).astype(np.float64)
    held = size > 0
    mean_confidence = np.bincount(place, confidence, minlength=CALIBRATION_BINS)[held] / size[held]
    mean_right = np.bincount(place, right, minlength=CALIBRATION_BINS)[held] / size[held]
    return mean_confidence, mean_right, size[held]


def per_class(truth: Counts, predicted: Counts, labels: Counts) -> dict[str, ClassFigures]:
    """Precision, recall and F1 by count; 0 where a count was never predicted or never true."""
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    return {
        str(label): ClassFigures(
            precision=float(precision[i]), recall=float(recall[i]), f1=float(f1[i]), support=int(support[i])
        )
        for i, label in enumerate(labels)
    }


def out_of_range_figures(outside: NDArray[np.bool_], probability: NDArray[np.float64]) -> OutOfRangeFigures | None:
    """Figures of the out-of-range probability; None unless there are bins of both kinds."""
    if outside.all() or not outside.any():
        return None
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    precision, recall, _, _ = precision_recall_fscore_support(
        outside, probability >= 0.5, average="binary", zero_division=0
    )
    return OutOfRangeFigures(
        auc=float(roc_auc_score(outside, probability)),
        precision=float(precision),
        recall=float(recall),
        n_in_range=int((~outside).sum()),
        n_out_of_range=int(outside.sum()),
    )


def summary_line(evaluation: Evaluation) -> str:
    """The line the original notebook printed, in its form."""
    figures = f"{evaluation.correct}/{evaluation.n_test} ({100 * evaluation.accuracy:.0f}%)"
    return f"Test set: Average loss: {evaluation.loss:.4f}, Accuracy: {figures}"


def scalar_figures(evaluation: Evaluation) -> Mapping[str, float]:
    """The figures that are one number each."""
    fields = evaluation.model_dump()
    return {name: value for name, value in fields.items() if isinstance(value, int | float)}
