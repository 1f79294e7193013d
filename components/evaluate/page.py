"""The evaluation's HTML report: how good the model is, beside the simplest guess, and where it goes wrong."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from components.core.bundle import BundleInfo
from components.core.metrics import Evaluation, believable
from components.core.report import Number, Photo, Report
from components.evaluate import plots
from components.evaluate.examples import Example, Examples
from components.evaluate.occlusion import LookedAt
from components.evaluate.record_page import add_records


def write_page(
    path: Path,
    info: BundleInfo,
    evaluation: Evaluation,
    predictions: pd.DataFrame,
    examples: Examples,
    looked_at: Sequence[LookedAt],
    missing: int,
) -> None:
    """Write the report. `missing` is how many test bins had no photo that could be read."""
    test = predictions[predictions["subset"] == "test"]
    left_out = f" {missing} more test bins have no usable photo and are left out." if missing else ""
    report = Report(
        "How well the model counts",
        f"{info.backbone} at {info.image_size} px, recipe {info.recipe}, version {evaluation.model_version}, "
        f"run by {evaluation.runtime} in {evaluation.precision}. "
        f"Judged on {evaluation.n_test:,} test bins that training never saw.{left_out}",
    )
    report.numbers(_headline(evaluation))
    report.heading("Beside the simplest guess")
    report.figure(plots.accuracy(evaluation), "Accuracy; the orange line is the 95 % interval (Wilson)")
    report.table(["", "this model", f"always {evaluation.baseline_count}"], _comparison(evaluation), "On the test bins")
    report.heading("Where it goes wrong")
    report.figure(
        plots.confusion(evaluation), "Share of the bins that truly hold a number (row) by what the model said (column)"
    )
    report.figure(plots.per_count(evaluation), "Precision and recall by count")
    report.table(["count", "precision", "recall", "F1", "bins"], _per_count(evaluation), "By count")
    if examples.mistakes:
        report.heading("Surest mistakes")
        report.text("Wrong, and most sure of it: a hidden item, a wrong record, or something to learn from.")
        report.gallery(Photo(one.jpeg, _said(one)) for one in examples.mistakes)
    _looked_at(report, looked_at)
    report.heading("Can its probabilities be believed?")
    report.figure(
        plots.reliability_diagram(test),
        f"Share right by how sure the model was; perfect is on the line. Calibration error (ECE) {evaluation.ece:.3f}",
    )
    if evaluation.ece_if_calibrated is not None:
        report.text(believable(evaluation.ece, evaluation.ece_if_calibrated))
    if evaluation.records is not None:
        add_records(report, evaluation.records)
    if evaluation.out_of_range is not None:
        _out_of_range(report, evaluation, predictions, info.max_count)
    report.write(path)


def _headline(evaluation: Evaluation) -> list[Number]:
    low, high = evaluation.accuracy_ci95
    return [
        Number("Accuracy", f"{evaluation.accuracy:.1%}", f"95 % interval {low:.1%} to {high:.1%}"),
        Number("Beside the baseline", f"{100 * (evaluation.accuracy - evaluation.baseline_accuracy):+.1f}", "points"),
        Number("Within one item", f"{evaluation.within_one:.1%}"),
        Number("RMSE", f"{evaluation.rmse:.2f}", "items, of the most probable count"),
        Number("Average loss", f"{evaluation.loss:.4f}", "nats, smaller is better"),
        Number("Quadratic kappa", f"{evaluation.quadratic_kappa:.3f}", "0 is chance, 1 is perfect"),
    ]


def _comparison(evaluation: Evaluation) -> list[list[str]]:
    return [
        ["right", f"{evaluation.accuracy:.1%}", f"{evaluation.baseline_accuracy:.1%}"],
        ["within one", f"{evaluation.within_one:.1%}", f"{evaluation.baseline_within_one:.1%}"],
        ["RMSE, most probable count", f"{evaluation.rmse:.3f}", f"{evaluation.baseline_rmse:.3f}"],
        ["RMSE, expected count", f"{evaluation.rmse_expected:.3f}", "–"],
        ["MAE, most probable count", f"{evaluation.mae:.3f}", f"{evaluation.baseline_mae:.3f}"],
        ["MAE, expected count", f"{evaluation.mae_expected:.3f}", "–"],
    ]


def _per_count(evaluation: Evaluation) -> list[list[str | int]]:
    return [
        [count, f"{one.precision:.1%}", f"{one.recall:.1%}", f"{one.f1:.1%}", one.support]
        for count, one in evaluation.per_class.items()
    ]


def _said(one: Example) -> str:
    return f"{one.file}: holds {one.quantity}, said {one.count} ({one.confidence:.0%} sure)"


def _looked_at(report: Report, looked_at: Sequence[LookedAt]) -> None:
    if not looked_at:
        return
    report.heading("What it looks at")
    report.text(
        "A patch of the photo's mean colour, a quarter of its width and height, covered it place by place. What is lit "
        "made the answer less probable when it was covered, so it speaks for the answer; what is blue speaks against "
        "it; what is dim hardly matters. The light should be on items, not on straps, walls or labels. A photo that is "
        "dim all over has no place that decides alone. The model was asked to believe in the same answer throughout, "
        "and a patch is itself something that it never saw: take the maps as a hint."
    )
    for name, right in (("Of the surest mistakes:", False), ("Of the surest right answers, by count:", True)):
        shown = [one for one in looked_at if (one.example.count == one.example.quantity) == right]
        if shown:
            report.text(name)
            report.gallery(Photo(one.picture(), f"{_said(one.example)}; {one.words}") for one in shown)


def _out_of_range(report: Report, evaluation: Evaluation, predictions: pd.DataFrame, max_count: int) -> None:
    figures = evaluation.out_of_range
    assert figures is not None
    report.heading(f"Bins with 0 or more than {max_count} items")
    report.numbers(
        [
            Number("ROC AUC", f"{figures.auc:.3f}", "0.5 is chance, 1 is perfect"),
            Number("Precision at 0.5", f"{figures.precision:.1%}"),
            Number("Recall at 0.5", f"{figures.recall:.1%}"),
            Number("Bins", f"{figures.n_out_of_range:,}", f"beside {figures.n_in_range:,} with 1 to {max_count}"),
        ]
    )
    report.figure(
        plots.out_of_range(predictions, max_count), "Probability of being out of range, for both kinds of held-out bins"
    )
