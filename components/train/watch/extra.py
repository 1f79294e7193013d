"""Whether learning from the extra bins (0 or more than max_count items) helped with the counts in range.

The answer is a second training without them, in as many optimiser steps, judged on the same validation bins.
"""

from dataclasses import replace
from pathlib import Path

from components.core.intervals import paired_interval
from components.core.metrics import evaluate_counts, most_probable
from components.core.place import is_address
from components.core.recipe import with_fields
from components.core.report import Report
from components.train.job import Fitted, Job
from components.train.records import ExtraComparison, Learned


def without_extra(job: Job, with_extra: int, extra: int) -> Job:
    """The same training without the extra bins: `extra` of `with_extra` training bins, in as many steps."""
    recipe, left = job.recipe, with_extra - extra
    fields = {
        "use_extra": False,
        "compare_extra": False,
        "epochs": max(1, round(recipe.epochs * with_extra / left)),
        "batch_size": min(recipe.batch_size, left),
    }
    # A folder holds the checkpoint of one training; in a bucket each has a key of its own.
    folder = job.checkpoints and not is_address(job.checkpoints)
    checkpoints = str(Path(job.checkpoints) / "without-extra") if folder else job.checkpoints
    without = with_fields(recipe, fields)
    return replace(job, recipe=without, checkpoints=checkpoints, trace=None)


def compare(ours: Fitted, theirs: Fitted) -> ExtraComparison:
    """Set a training with extra bins against one without."""
    rights = []
    for fitted in (ours, theirs):
        truth = fitted.prepared.data.validation.quantities
        rights.append(most_probable(fitted.scores) == truth)
    return ExtraComparison(_learned(ours), _learned(theirs), paired_interval(*rights))


def _learned(fitted: Fitted) -> Learned:
    data = fitted.prepared.data
    figures = evaluate_counts(data.validation.quantities, fitted.scores)
    epochs = len(fitted.outcome.history)
    return Learned(len(data.train), epochs, figures.accuracy, figures.rmse, figures.loss)


def draw_comparison(report: Report, comparison: ExtraComparison | None) -> None:
    """The section of the report; without a comparison, how to get one."""
    report.heading("Whether the extra bins helped")
    if comparison is None:
        report.text(
            "Whether the extra bins helped with the counts in range was not measured in this run: the override "
            '{"compare_extra": true} trains a second time without them and says so here.'
        )
        return
    rows = [
        [name, f"{one.training_bins:,}", one.epochs, f"{one.accuracy:.1%}", f"{one.rmse:.3f}", f"{one.loss:.3f}"]
        for name, one in (("with", comparison.with_extra), ("without", comparison.without_extra))
    ]
    report.text(str(comparison))
    report.table(
        ["extra bins", "training bins", "epochs", "accuracy", "RMSE", "loss"],
        rows,
        "On the validation bins in range, after calibration; both trainings took as many steps",
    )
