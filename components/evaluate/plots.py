"""The figures of the evaluation report."""

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from components.core.metrics import Evaluation, reliability
from components.core.predictions import stack_scores
from components.core.report import SERIES, new_axes


def accuracy(evaluation: Evaluation) -> Figure:
    """Accuracy of the model with its interval, and of always answering the commonest count."""
    figure, axes = new_axes(7.2, 1.9)
    low, high = evaluation.accuracy_ci95
    names = ["this model", f"always {evaluation.baseline_count}"]
    values = [evaluation.accuracy, evaluation.baseline_accuracy]
    axes.barh(names, values, color=[SERIES[0], "#8a929c"], height=0.55)
    axes.plot([low, high], [0, 0], color=SERIES[1], linewidth=3, solid_capstyle="butt")
    for place, value in enumerate(values):
        axes.text(0.008, place, f"{value:.1%}", va="center", color="white", fontweight="bold")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(_percent)
    return figure


def confusion(evaluation: Evaluation) -> Figure:
    """Confusion matrix, each row as shares of the bins that truly hold that many."""
    matrix = np.array(evaluation.confusion)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    counts = len(matrix)
    figure, axes = new_axes(1.6 + 0.75 * counts, 1.2 + 0.62 * counts)
    axes.grid(visible=False)
    # A share is how opaque its cell is, so that the page's own colour shows where nothing is.
    axes.imshow(np.dstack([np.broadcast_to(to_rgb(SERIES[0]), (counts, counts, 3)), shares]), aspect="auto")
    for row in range(counts):
        for column in range(counts):
            text = f"{shares[row, column]:.0%}\n{matrix[row, column]}"
            axes.text(column, row, text, ha="center", va="center", fontsize=9)
    labels = [str(count) for count in range(1, counts + 1)]
    axes.set_xticks(range(counts), labels)
    axes.set_yticks(range(counts), labels)
    axes.set_xlabel("the model said")
    axes.set_ylabel("the bin holds")
    return figure


def per_count(evaluation: Evaluation) -> Figure:
    """Precision and recall of every count, side by side."""
    figure, axes = new_axes(7.2, 2.8)
    labels = list(evaluation.per_class)
    places = np.arange(len(labels))
    figures = evaluation.per_class.values()
    axes.bar(places - 0.2, [one.precision for one in figures], 0.38, color=SERIES[0], label="precision")
    axes.bar(places + 0.2, [one.recall for one in figures], 0.38, color=SERIES[1], label="recall")
    axes.set_xticks(places, labels)
    axes.set_xlabel("items")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(_percent)
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def reliability_diagram(test: pd.DataFrame) -> Figure:
    """How often the model was right against how sure it was; a dot's size is the share of bins it stands for."""
    confidence, right, size = reliability(test["quantity"].to_numpy(np.int64), stack_scores(test))
    figure, axes = new_axes(4.6, 3.6)
    axes.plot([0, 1], [0, 1], color="#8a929c", linewidth=1, linestyle="--")
    axes.scatter(confidence, right, s=20 + 400 * size / size.sum(), color=SERIES[0], alpha=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="how sure", ylabel="share right")
    axes.xaxis.set_major_formatter(_percent)
    axes.yaxis.set_major_formatter(_percent)
    return figure


def out_of_range(predictions: pd.DataFrame, max_count: int) -> Figure:
    """Histograms of the out-of-range probability for bins inside and outside 1…max_count."""
    figure, axes = new_axes(7.2, 2.6)
    outside = predictions["subset"] == "extra"
    edges = np.linspace(0, 1, 21).tolist()
    for rows, colour, name in (
        (~outside, SERIES[0], f"1 to {max_count} items"),
        (outside, SERIES[1], f"0 or more than {max_count}"),
    ):
        values = predictions.loc[rows, "out_of_range"]
        weights = np.full(len(values), 1 / max(len(values), 1))
        axes.hist(values, edges, weights=weights, histtype="stepfilled", color=colour, alpha=0.6, label=name)
    axes.set(xlim=(0, 1), xlabel="probability of being out of range", ylabel="share of the bins")
    axes.yaxis.set_major_formatter(_percent)
    axes.legend(frameon=False)
    return figure


def _percent(value: float, _position: float) -> str:
    return f"{value:.0%}"
