"""The page about a split: sizes, label histograms, what was left out, what leaks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from components.core.records import SUBSETS
from components.core.report import SERIES, Number, Report, new_axes
from components.split.divide import Division, SplitOptions
from components.split.leaks import NEAR, LeakCheck


def write_report(
    path: Path, division: Division, leaks: LeakCheck, options: SplitOptions, given: Mapping[str, list[str]]
) -> None:
    """Draw the page."""
    splits = division.splits
    sizes = splits["subset"].value_counts()
    report = Report("Split", f"seed {options.seed}, by blocks of neighbouring ids")
    report.numbers(
        [
            *(Number(subset, f"{int(sizes.get(subset, 0)):,}") for subset in SUBSETS),
            Number("left out", f"{len(division.left_out):,}"),
        ]
    )
    if given:
        names = ", ".join(f"{subset} ({len(ids):,} ids)" for subset, ids in given.items())
        report.text(f"Given as file lists: {names}.")
    if not leaks.contents_known:
        report.text("The contents of the bins are not known, so the split rests on blocks of neighbouring ids alone.")
    report.figure(_labels(splits, options.max_count), "Labels of each subset, as a share of the subset")
    columns = ["items", *SUBSETS[:3]]
    table = pd.crosstab(splits["quantity"], splits["subset"]).reindex(columns=list(SUBSETS[:3]), fill_value=0)
    rows = [
        [str(count), *map(int, table.loc[count])] for count in range(1, options.max_count + 1) if count in table.index
    ]
    report.table(columns, rows, "Bins by label")
    reasons = division.left_out["reason"].value_counts()
    if len(reasons):
        rows = [[reason, int(bins)] for reason, bins in reasons.items()]
        report.table(["reason", "bins"], rows, "Left out, so that nothing leaks; left_out.csv names them")
    report.heading("Leak check")
    rows = [[pair, leaks.shared_contents[pair], leaks.neighbours[pair]] for pair in leaks.neighbours]
    report.table(["subsets", "shared contents", f"ids at most {NEAR} apart"], rows, "What stands on both sides")
    report.write(path)


def _labels(splits: pd.DataFrame, max_count: int) -> Figure:
    figure, axes = new_axes()
    labels = np.arange(1, max_count + 1)
    for place, subset in enumerate(SUBSETS[:3]):
        counts = splits["quantity"][splits["subset"] == subset].value_counts().reindex(labels, fill_value=0)
        axes.bar(labels + (place - 1) * 0.27, counts / counts.sum(), 0.25, color=SERIES[place], label=subset)
    axes.set(xlabel="items in the bin", ylabel="share of the subset", xticks=labels)
    axes.legend(frameon=False)
    return figure
