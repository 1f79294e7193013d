"""The report of a training: curves, what the rules found, calibration, precision, where the time went."""

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.core.report import SERIES, Number, Report, new_axes
from components.train.job import Result
from components.train.records import EpochRecord, Outcome, Use
from components.train.trials import draw_study
from components.train.watch.extra import draw_comparison
from components.train.watch.measure import PARTS
from components.train.watch.rules import names


def draw_curves(history: list[EpochRecord], path: Path) -> None:
    """Write loss and accuracy of training and validation by epoch as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(10, 4), layout="constrained")
    _losses(figure.add_subplot(1, 2, 1), history)
    _accuracies(figure.add_subplot(1, 2, 2), history)
    figure.savefig(path, format="png", dpi=120)


def write_report(result: Result, path: Path) -> None:
    """Write the HTML report."""
    fitted, outcome = result.fitted, result.fitted.outcome
    job, data, history = fitted.prepared.job, fitted.prepared.data, outcome.history
    info = result.bundle.info
    seconds = sum(record.seconds for record in history)
    report = Report(
        "How the model was trained",
        f"Recipe {job.recipe.name}: {info.backbone} at {info.image_size} px, started from {info.initial_weights}. "
        f"{len(data.train):,} training bins, {len(data.validation):,} validation bins, seed {job.seed}."
        + (f" {data.missing} bins have no usable photo and are left out." if data.missing else ""),
    )
    report.numbers(
        [
            Number("Validation accuracy", f"{fitted.validation_accuracy:.1%}", _weights_of(outcome)),
            Number("Validation loss", f"{fitted.validation_loss:.4f}", "nats, before calibration"),
            Number("Speed", f"{sum(r.images for r in history) / max(seconds, 1e-9):,.0f}/s", "training images"),
            Number("Time", _duration(seconds), "training alone"),
        ]
    )
    if outcome.stopped:
        report.text(f"Stopped early: {outcome.stopped}.")
    report.heading("Curves")
    for draw, caption in (
        (_losses, "Loss by epoch; the one of training is the loss that is minimised, on augmented photos"),
        (_accuracies, "Accuracy by epoch, on bins with a count in range"),
        (_rates, "Learning rate by epoch, at its end"),
    ):
        figure, axes = new_axes()
        draw(axes, history)
        report.figure(figure, caption)
    report.figure(_gradients(outcome.gradient_norms), "Gradient norm by step")
    if job.study:
        report.heading("The trials that chose learning rate and batch size")
        draw_study(report, job.study)
    _rules(report, result)
    _calibration(report, result)
    _precision(report, result)
    if result.out_of_range is not None:
        figures = result.out_of_range
        report.heading("Bins out of range")
        report.table(
            ["", "value"],
            [
                ["area under the ROC curve", f"{figures.auc:.3f}"],
                ["precision at 0.5", f"{figures.precision:.3f}"],
                ["recall at 0.5", f"{figures.recall:.3f}"],
            ],
            f"On validation: {figures.n_out_of_range} bins with 0 or more than {job.max_count} items, "
            f"{figures.n_in_range} in range; none of them was trained on",
        )
    if job.recipe.use_extra:
        draw_comparison(report, result.extra)
    _time(report, history)
    _use(report, outcome.use)
    _bins(report, result)
    report.table(["field", "value"], [[k, str(v)] for k, v in info.recipe_fields.items()], "The recipe")
    report.write(path)


def _weights_of(outcome: Outcome) -> str:
    epochs = len(outcome.history)
    return f"after {epochs} epochs" if outcome.kept == epochs else f"of epoch {outcome.kept} of {epochs}, the best one"


def _losses(axes: Axes, history: list[EpochRecord]) -> None:
    _lines(axes, history, "train_loss", "validation_loss", "loss")


def _accuracies(axes: Axes, history: list[EpochRecord]) -> None:
    _lines(axes, history, "train_accuracy", "validation_accuracy", "accuracy")


def _lines(axes: Axes, history: list[EpochRecord], training: str, validation: str, name: str) -> None:
    epochs = [record.epoch for record in history]
    axes.plot(epochs, [getattr(r, training) for r in history], color=SERIES[0], marker="o", ms=3, label="training")
    axes.plot(epochs, [getattr(r, validation) for r in history], color=SERIES[1], marker="o", ms=3, label="validation")
    axes.set_xlabel("epoch")
    axes.set_ylabel(name)
    axes.legend(frameon=False)


def _rates(axes: Axes, history: list[EpochRecord]) -> None:
    axes.plot([r.epoch for r in history], [r.learning_rate for r in history], color=SERIES[2], marker="o", ms=3)
    axes.set_xlabel("epoch")
    axes.set_ylabel("learning rate")


def _gradients(norms: list[float]) -> Figure:
    figure, axes = new_axes()
    # At most 1,000 points, each the largest of its steps, so that a spike stays visible.
    parts = np.array_split(np.array(norms), min(len(norms), 1000))
    axes.plot(np.linspace(1, len(norms), len(parts)), [part.max() for part in parts], color=SERIES[3], linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("norm")
    return figure


def _rules(report: Report, result: Result) -> None:
    findings = result.fitted.outcome.findings
    report.heading("What the rules found")
    if findings:
        report.table(["rule", "evidence", "advice"], [[f.rule, f.evidence, f.advice] for f in findings], "Rules broken")
    kept = [name for name in names() if name not in {finding.rule for finding in findings}]
    report.text(f"Nothing to say: {', '.join(kept)}.")


def _calibration(report: Report, result: Result) -> None:
    calibrated, figures = result.fitted.calibrated, result.bundle.info.metrics
    report.heading("Calibration")
    report.text(str(calibrated))
    report.table(
        ["", "calibration error (ECE)"],
        [
            ["before", f"{figures['ece_before_calibration']:.4f}"],
            ["after, on bins it was not fitted on", f"{figures['ece']:.4f}"],
            ["perfect calibration stays below, 19 times in 20", f"{figures['ece_if_calibrated']:.4f}"],
        ],
        f"On validation bins in range. The temperature ({calibrated.calibration.temperature:.3f}) and the biases of "
        f"all classes ({', '.join(f'{bias:+.2f}' for bias in calibrated.calibration.biases)}) are part of the graph, "
        f"fitted on {len(calibrated.held_out):,} bins of validation blocks",
    )


def _precision(report: Report, result: Result) -> None:
    report.heading("Precision to serve with")
    report.table(
        ["precision", "validation accuracy", "ms a photo"],
        [[m.precision, f"{m.accuracy:.2%}", f"{1000 * m.seconds:.2f}"] for m in result.measured],
        f"Chosen: {result.bundle.info.precision}, the fastest that costs no more than half a point. "
        f"The graph differs from torch by {result.difference:.1e} at most",
    )


def _time(report: Report, history: list[EpochRecord]) -> None:
    totals: Counter[str] = Counter()
    for record in history:
        totals.update(record.times)
    report.heading("Where the time went")
    figure, axes = new_axes(7.2, 2.6)
    shown = [part for part in PARTS if totals[part] > 0]
    axes.barh(shown, [totals[part] for part in shown], color=SERIES[0])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    report.figure(figure, "Seconds in each part, all epochs together; read is the time spent waiting for photos")


def _use(report: Report, use: list[Use]) -> None:
    if len(use) < 2:
        return
    seconds = [sample.seconds for sample in use]
    figure, axes = new_axes()
    axes.plot(seconds, [sample.cpu for sample in use], color=SERIES[0], label="processor")
    if any(sample.gpu is not None for sample in use):
        axes.plot(seconds, [sample.gpu or 0 for sample in use], color=SERIES[1], label="GPU")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("seconds")
    axes.set_ylabel("share in use")
    axes.legend(frameon=False)
    memory = f"{max(sample.memory for sample in use) / 1e9:.1f} GB of memory at most"
    gpu = [sample.gpu_memory for sample in use if sample.gpu_memory is not None]
    report.figure(
        figure, f"What this process used; {memory}" + (f", {max(gpu) / 1e9:.1f} GB on the GPU" if gpu else "")
    )


def _bins(report: Report, result: Result) -> None:
    data = result.fitted.prepared.data
    quantities = np.unique(np.concatenate([data.train.quantities, data.validation.quantities]))
    rows = [
        [str(q), int((data.train.quantities == q).sum()), int((data.validation.quantities == q).sum())]
        for q in quantities
    ]
    report.heading("What it learned from")
    report.table(["items", "training bins", "validation bins"], rows, "Bins by the number of their items")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.0f} s"
