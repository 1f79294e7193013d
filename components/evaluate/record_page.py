"""The part of the report that tells whether wrong records are found."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from components.core.record_metrics import FIRST_TENTH, PHOTO, RANDOM, SHARES, ErrorKindFigures, RecordFigures, Spread
from components.core.report import SERIES, Number, Report, new_axes


def add_records(report: Report, figures: RecordFigures) -> None:
    """Add the section."""
    mixture = figures.kinds[0]
    found, blind = (one.found[FIRST_TENTH].mean for one in figures.ranked)
    report.heading("Does the bin hold what is on record?")
    report.text(
        f"Errors were drawn into the records of {figures.bins:,} held-out bins of every count, {figures.draws} times: "
        f"in each draw {figures.error_rate:.0%} of the records are wrong, on average {mixture.wrong:.0f}. Then all are "
        "put in order, what is likeliest wrong first. Everything is taken from the record with its error; the true "
        "list beside a wrong quantity would give it away. Records beyond what the model counts "
        f"({mixture.unjudged:,.0f} on average) come last and count in every share."
    )
    report.numbers(
        [
            Number("Found in the first 10 %", f"{found:.0%}", "of the wrong records; random finds 10 %"),
            Number("Without the photo", f"{blind:.0%}", "by the record alone"),
            Number("Right ones recounted", f"{figures.recounts_of_right:.1%}", f"from {figures.recount_from:.0%} on"),
            Number("Wrong ones recounted", f"{figures.recounts_of_wrong:.0%}", f"from {figures.recount_from:.0%} on"),
        ]
    )
    report.figure(_found_by(mixture), "Share of the wrong records in the first 10 % of recounts, with 95 % intervals")
    report.table(
        ["in order of", "AUC", *(f"first {share:.0%}" for share in SHARES), "half found after"],
        [[one.by, f"{one.auc.mean:.3f}", *map(_share, one.found), f"{one.half.mean:.0%}"] for one in mixture.rankings],
        "Wrong records found, all kinds of errors together: mean and standard deviation of the draws",
    )
    ways = [one.by for one in mixture.rankings if one.by not in (PHOTO, RANDOM)]
    report.table(
        ["kind of error", *ways],
        [[one.kind, *(_share(_first(one, way)) for way in ways)] for one in figures.kinds],
        "Found in the first 10 % of recounts where all errors are of one kind",
    )
    report.table(
        ["wrong records", "squared error", "of a constant", *(f"expected / found, first {one:.0%}" for one in SHARES)],
        [
            [
                f"{one.rate:.0%}",
                f"{one.brier.mean:.4f}",
                f"{one.constant.mean:.4f}",
                *(f"{expected:.1f} / {found:.1f}" for expected, found in zip(one.expected, one.found, strict=True)),
            ]
            for one in figures.rates
        ],
        "Whether the probabilities hold where the model is told how many records are wrong",
    )
    _counting_and_sets(report, figures)


def _counting_and_sets(report: Report, figures: RecordFigures) -> None:
    if figures.counting:
        report.table(
            ["count by", "right", "RMSE", "both are right oftener by"],
            [
                [
                    one.by,
                    f"{one.accuracy:.1%}",
                    f"{one.rmse:.3f}",
                    "–" if one.lead is None else f"{one.lead[0]:+.1%} to {one.lead[1]:+.1%}",
                ]
                for one in figures.counting
            ],
            "Counting where the products are known, but not how many of each",
        )
    if figures.sets:
        report.table(
            ["set by", "holds the true count", "counts in it", "bins"],
            [[one.by, f"{one.coverage:.1%}", f"{one.size:.2f}", one.bins] for one in figures.sets],
            "Sets of counts that shall hold the true one nine times in ten",
        )


def _first(kind: ErrorKindFigures, by: str) -> Spread:
    return next(one.found[FIRST_TENTH] for one in kind.rankings if one.by == by)


def _share(spread: Spread) -> str:
    return f"{spread.mean:.1%} ± {100 * spread.deviation:.1f}"


def _found_by(kind: ErrorKindFigures) -> Figure:
    """Bars of what every order finds in the first tenth."""
    names = [one.by for one in kind.rankings if one.by != RANDOM]
    figure, axes = new_axes(7.2, 0.5 * len(names) + 1.0)
    spreads = [_first(kind, name) for name in names]
    places = np.arange(len(names))[::-1]
    axes.grid(visible=False)
    axes.barh(places, [one.mean for one in spreads], 0.6, color=SERIES[0])
    for place, one in zip(places, spreads, strict=True):
        axes.plot(one.interval, [place, place], color=SERIES[1], linewidth=2)
    axes.axvline(SHARES[FIRST_TENTH], color="#8a929c", linewidth=1, linestyle="--")
    axes.set_yticks(places, names)
    axes.set_xlim(0, max(one.interval[1] for one in spreads) * 1.05)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("dashed: random")
    return figure
