"""audit.html: the first bins to recount with photo and record side by side, and what so many recounts may find."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from components.audit.rank import MORE, Terms
from components.core.image_file import read_image_file
from components.core.pixels import thumbnail
from components.core.report import SERIES, Number, Photo, Report, new_axes

SHOWN = 24
_SIDE = 320  # pixels of a shown photo, the longer one
_GROUPS = 12  # rows of a table by site, camera and the like
_STEPS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)


@dataclass(frozen=True)
class About:
    """Which version judged, how much was left out, the share of wrong records it went by, what recounts said."""

    version: str
    left_out: int
    error_rates: tuple[float, float]  # the smallest and the largest, where sites differ
    recounts: str


def write_page(
    path: Path,
    bins: pd.DataFrame,
    listed: pd.DataFrame,
    terms: Terms,
    about: About,
    read: Callable[[str], bytes | None],
) -> None:
    """Write the page. `bins` are all, `listed` those to recount; `read` gives a photo, None where it cannot be had."""
    judged = bins[bins["probability"].notna()]
    ranked = listed[listed["why"] == "ranked"]
    report = Report(
        "Which bins to recount",
        f"{len(bins):,} bins with photo and record, judged by version {about.version}. The first {len(ranked):,} on "
        f"the list are the likeliest wrong records; {len(listed) - len(ranked):,} more are drawn at random, to learn "
        "how often records are wrong.",
    )
    expected, found = float(judged["probability"].sum()), float(ranked["probability"].sum())
    by_chance = len(ranked) * expected / max(1, len(judged))
    report.numbers(
        [
            Number("Wrong records expected", f"{expected:,.0f}", f"of {len(judged):,} that can be judged"),
            Number("Found by the list", f"{found:,.0f}", f"expected, in {len(ranked):,} recounts"),
            Number("At random", f"{by_chance:,.0f}", "expected, in as many recounts"),
            Number("Cannot be judged", f"{len(bins) - len(judged):,}", "beyond the model, or no readable photo"),
            Number("Left out", f"{about.left_out:,}", "in left_out.csv, with reasons"),
        ]
    )
    if len(judged):
        _expectations(report, judged, terms, about)
    report.heading("The first bins")
    report.gallery(_shown(ranked, read))
    for column, title in (("site", "site"), ("camera", "camera"), ("recorded", "recorded quantity")):
        _by(report, judged, ranked, column, title)
    unclear = bins[bins["unclear"] != ""]
    report.heading("Photos that cannot tell")
    if unclear.empty:
        report.text("None.")
    else:
        report.text("Take these photos anew, or count by hand; audit.parquet names them all.")
        report.table(
            ["why", "bins", "for example"],
            [[why, len(group), ", ".join(group["file"].head(3))] for why, group in unclear.groupby("unclear")],
            "By reason",
        )
    report.write(path)


def _shares(rates: tuple[float, float]) -> str:
    low, high = (f"{rate:.1%}" for rate in rates)
    return low if low == high else f"{low} to {high}, by site"


def _expectations(report: Report, judged: pd.DataFrame, terms: Terms, about: About) -> None:
    probability = np.sort(judged["probability"].to_numpy())[::-1]
    report.heading("What recounts are expected to find")
    report.text(
        "Expected by the probabilities themselves: they hold as far as records go wrong in the ways, and as often, as "
        f"the model was told ({_shares(about.error_rates)}). Recounts of the bins drawn at random show whether that is "
        "so: "
        "fill in the column counted of recount.csv, and give it to make recounts."
    )
    if about.recounts:
        report.text(f"Earlier lists: {about.recounts}")
    report.figure(
        _curve(probability),
        "Share of the wrong records that the first recounts are expected to find; dashed: in any order",
    )
    rows = []
    for number in [step for step in _STEPS if step < len(probability)] + [len(probability)]:
        found = float(probability[:number].sum())
        value = found * terms.wrong_record_costs - number * terms.recount_costs
        rows.append([f"{number:,}", f"{found:,.1f}", f"{found / probability.sum():.0%}", f"{value:+,.0f}"])
    report.table(
        ["recounts", "wrong records found", "of all", "worth"],
        rows,
        f"Where a recount costs {terms.recount_costs:g} and a wrong record {terms.wrong_record_costs:g}",
    )


def _curve(probability: np.ndarray) -> Figure:
    figure, axes = new_axes(7.2, 3.0)
    places = np.unique(np.linspace(0, len(probability), 200).round().astype(int))
    found = np.concatenate([[0.0], probability.cumsum()])[places] / probability.sum()
    axes.plot(places / len(probability), found, color=SERIES[0], linewidth=2)
    axes.plot([0, 1], [0, 1], color="#8a929c", linewidth=1, linestyle="--")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="share of the bins recounted", ylabel="wrong records found")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def _shown(ranked: pd.DataFrame, read: Callable[[str], bytes | None]) -> Iterator[Photo]:
    for row in ranked.head(SHOWN).to_dict("records"):
        jpeg = read(str(row["file"]))
        if jpeg is None:
            continue
        likelier = "more" if row["likeliest"] == MORE else row["likeliest"]
        likelier = "no count" if row["likeliest"] == row["recorded"] else likelier
        kinds = (
            "" if pd.isna(row["products"]) else f" of {row['products']} product{'s' if row['products'] != 1 else ''}"
        )
        where = f"{row['bin']}, " if row["bin"] else ""
        caption = f"{row['rank']}. {where}{row['file']}: {row['recorded']} on record{kinds}, {likelier} is likelier; "
        yield Photo(_thumbnail(jpeg), f"{caption}wrong with {row['probability']:.0%}")


def _thumbnail(photo: bytes) -> bytes:
    data = io.BytesIO()
    thumbnail(read_image_file(photo), _SIDE).save(data, "JPEG", quality=80)
    return data.getvalue()


def _by(report: Report, bins: pd.DataFrame, ranked: pd.DataFrame, column: str, title: str) -> None:
    """A table by a column, where it says more than one thing."""
    if bins[column].astype(str).nunique() < 2:
        return
    on_list = ranked[column].value_counts()
    groups = bins.groupby(column)["probability"].agg(["size", "mean", "sum"])
    groups = groups.sort_values(["mean", "size"], ascending=False, kind="stable")
    more = f", {_GROUPS} of {len(groups)}" if len(groups) > _GROUPS else ""
    report.heading(f"By {title}")
    report.table(
        [title, "bins", "wrong records expected", "share", "on the list"],
        [
            [
                str(name) or "not told",
                int(row["size"]),
                f"{row['sum']:,.1f}",
                f"{row['mean']:.1%}",
                int(on_list.get(name, 0)),
            ]
            for name, row in groups.head(_GROUPS).iterrows()
        ],
        f"Most in doubt first{more}",
    )
