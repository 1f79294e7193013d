"""The exploration of a dataset: one page drawn from the records and rejects tables in seconds."""

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from components.core.records import iterate_rejects
from components.core.report import SERIES, Number, Report, new_axes
from components.ingest_metadata.relabel import Relabelling
from components.ingest_metadata.totals import Totals, total_up

SHOWN_REJECTS = 20
SHOWN_LABELS = 100
LONGEST_AXIS = 20


def write_report(
    records_path: Path,
    rejects_path: Path,
    report_path: Path,
    max_count: int,
    source: str,
    relabelling: Relabelling | None = None,
) -> None:
    """Draw the page. `relabelling` is what was done with recounts, where the records were read just now."""
    totals = total_up(records_path)
    report = Report("Bins read", f"from {source}")
    report.numbers(
        [
            Number("bins", f"{totals.bins:,}"),
            Number(f"with {max_count} items or fewer", f"{totals.share_up_to(max_count):.1%}"),
            Number("mean items", f"{_mean(totals.quantities):.1f}", f"largest {max(totals.quantities)}"),
            *_contents_numbers(totals),
        ]
    )
    report.figure(_quantities(totals, max_count), f"Bins by quantity; counts up to {max_count} are learnt")
    if max(totals.quantities) > LONGEST_AXIS:
        report.figure(_tail(totals), "The same to the tail, on a logarithmic scale")
    if totals.contents_known:
        _explore_contents(report, totals)
    else:
        report.text(
            "The source says nothing of the contents; the split falls back to blocks of neighbouring ids alone."
        )
    if relabelling is not None and relabelling.labels.by_file:
        _list_labels(report, relabelling)
    _list_rejects(report, rejects_path)
    report.write(report_path)


def _contents_numbers(totals: Totals) -> list[Number]:
    if not totals.contents_known:
        return []
    return [
        Number("mean products", f"{_mean(totals.products):.1f}"),
        Number("disagree with contents", f"{totals.inconsistent:,}", "kept and flagged"),
    ]


def _explore_contents(report: Report, totals: Totals) -> None:
    report.heading("Contents")
    report.figure(_products(totals), "Bins by number of distinct products")
    report.figure(_products_by_items(totals), "Products against items; darker is more bins")
    for figures, name, unit in ((totals.weights, "Weight", "pounds"), (totals.volumes, "Volume", "cubic inches")):
        values = np.concatenate(figures)
        if (values > 0).any():
            report.figure(_spread(values[values > 0], unit), f"{name} of all items of a bin, where every one is known")
    rows = [
        [str(distance), f"{pairs:,}", f"{shared:,}", f"{shared / pairs:.2%}"]
        for distance, (shared, pairs) in totals.shared_contents.items()
        if pairs
    ]
    if rows:
        columns = ["ids apart", "pairs", "same contents", "share"]
        report.table(columns, rows, "Neighbouring ids that hold exactly the same: why the split keeps blocks together")


def _list_labels(report: Report, relabelling: Relabelling) -> None:
    report.heading("Recounts")
    report.text(f"Of the recounts {relabelling.told()}.")
    rows = [
        [one.name, str(one.recount.recorded), str(one.recount.counted), one.recount.by, one.recount.when]
        for one in relabelling.changed
    ]
    if rows:
        columns = ["photo", "on record", "counted, the label now", "by", "when"]
        report.table(columns, rows[:SHOWN_LABELS], f"Labels that are not the record's, {len(rows):,} in all")


def _list_rejects(report: Report, rejects_path: Path) -> None:
    reasons: Counter[str] = Counter()
    first: list[list[object]] = []
    for reject in iterate_rejects(rejects_path):
        reasons[reject.reason] += 1
        if len(first) < SHOWN_REJECTS:
            first.append([reject.key, reject.reason, reject.detail])
    report.heading("Left out")
    if not reasons:
        report.text("Nothing was left out.")
        return
    report.table(["reason", "files"], [[reason, count] for reason, count in reasons.most_common()], "By reason")
    report.table(["key", "reason", "detail"], first, f"The first {len(first)}; all are in the rejects table")


def _quantities(totals: Totals, max_count: int) -> Figure:
    figure, axes = new_axes()
    shown = range(min(max(totals.quantities), LONGEST_AXIS) + 1)
    colours = [SERIES[0] if 1 <= quantity <= max_count else SERIES[1] for quantity in shown]
    bars = axes.bar(shown, [totals.quantities[quantity] for quantity in shown], color=colours)
    if len(shown) <= LONGEST_AXIS // 2 + 1:
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=8)
    axes.set(xlabel="items in the bin", ylabel="bins", xticks=list(shown))
    return figure


def _tail(totals: Totals) -> Figure:
    figure, axes = new_axes()
    quantities = sorted(totals.quantities)
    axes.bar(quantities, [totals.quantities[quantity] for quantity in quantities], width=1.0, color=SERIES[0])
    axes.set(xlabel="items in the bin", ylabel="bins", yscale="log")
    return figure


def _products(totals: Totals) -> Figure:
    figure, axes = new_axes()
    shown = range(min(max(totals.products), LONGEST_AXIS) + 1)
    axes.bar(shown, [totals.products[products] for products in shown], color=SERIES[2])
    axes.set(xlabel="distinct products", ylabel="bins", xticks=list(shown))
    return figure


def _products_by_items(totals: Totals) -> Figure:
    figure, axes = new_axes(height=4)
    grid = np.zeros((LONGEST_AXIS + 1, LONGEST_AXIS + 1))
    for (quantity, products), bins in totals.products_by_items.items():
        if quantity <= LONGEST_AXIS and products <= LONGEST_AXIS:
            grid[products, quantity] = bins
    axes.imshow(np.log1p(grid), origin="lower", aspect="auto", cmap="Blues")
    axes.set(xlabel="items", ylabel="distinct products", xticks=range(0, 21, 2), yticks=range(0, 21, 2))
    axes.grid(visible=False)
    return figure


def _spread(values: NDArray[np.float32], unit: str) -> Figure:
    figure, axes = new_axes(height=2.6)
    low, high = np.percentile(values, [0.1, 99.9])
    axes.hist(values, bins=np.geomspace(max(low, 1e-3), max(high, low * 1.01 + 1e-3), 60).tolist(), color=SERIES[3])
    axes.set(xlabel=unit, ylabel="bins", xscale="log")
    return figure


def _mean(counts: Counter[int]) -> float:
    return sum(value * bins for value, bins in counts.items()) / counts.total()
