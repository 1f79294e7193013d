"""The page about a download: the photos' dimensions, near-identical ones, what was left out."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from components.core.records import Reject
from components.core.report import SERIES, Number, Report, new_axes
from components.download.near import NEAR_BITS, count_by_side, name_of_sides, near_groups, near_limit
from components.download.pack import Look

SHOWN = 20


def write_report(path: Path, photos: Sequence[Look], rejects: Sequence[Reject], sides: Mapping[str, str]) -> None:
    """Draw the page. `sides` tells the subset of each id's block. Prints the near-identical pairs across subsets."""
    report = Report("Photos", "fetched, checked and packed")
    widths, heights = (np.array([getattr(photo, side) for photo in photos]) for side in ("width", "height"))
    sizes = np.array([photo.bytes for photo in photos])
    report.numbers(
        [
            Number("photos", f"{len(photos):,}"),
            Number("median size", f"{np.median(widths):.0f}×{np.median(heights):.0f}", "pixels"),
            Number("median file", f"{np.median(sizes) / 1000:.0f} kB", f"{sizes.sum() / 1e9:.2f} GB in all"),
            Number("left out", f"{len(rejects):,}"),
        ]
    )
    report.figure(_dimensions(widths, heights), "Widths and heights of the photos")
    _near(report, photos, sides)
    report.heading("Left out")
    if rejects:
        reasons = Counter(reject.reason for reject in rejects).most_common()
        report.table(["reason", "photos"], [list(each) for each in reasons], "By reason")
        rows = [[reject.key, reject.reason, reject.detail] for reject in rejects[:SHOWN]]
        report.table(["key", "reason", "detail"], rows, f"The first {len(rows)}; all are in the rejects table")
    else:
        report.text("Nothing was left out.")
    report.write(path)


def _near(report: Report, photos: Sequence[Look], sides: Mapping[str, str]) -> None:
    hashes = [base64.b64decode(photo.hash) for photo in photos]
    limit = near_limit(hashes)
    groups = near_groups(hashes, limit)
    of_photo = [sides[photo.image_id] for photo in photos]
    counts = count_by_side(groups, of_photo)
    across = sum(number for name, (number, _) in counts.items() if "-" in name)
    print(
        f"near-identical photos: {sum(map(len, groups)):,} in {len(groups):,} groups, {across:,} of them across subsets"
    )
    report.heading("Near-identical photos")
    if not groups:
        report.text("None.")
        return
    report.table(
        ["subsets", "groups", "photos"],
        [[name, number, number_of_photos] for name, (number, number_of_photos) in counts.items()],
        f"Photos whose hash is within {limit} of 256 bits of another's in their group"
        + ("" if limit == NEAR_BITS else f"; not {NEAR_BITS}, because these photos are much alike by nature"),
    )
    crossing = [(group, name) for group in groups if "-" in (name := name_of_sides(group, of_photo))]
    rows = [
        [" ".join(photos[place].image_id for place in group[:SHOWN]) + (" …" if len(group) > SHOWN else ""), name]
        for group, name in crossing[:SHOWN]
    ]
    if rows:
        report.table(["photos", "subsets"], rows, f"The first {len(rows)} groups across subsets")


def _dimensions(widths: "np.ndarray", heights: "np.ndarray") -> Figure:
    figure, axes = new_axes()
    low, high = min(widths.min(), heights.min()), max(widths.max(), heights.max())
    edges = np.linspace(low - 0.5, max(high, low + 60) + 0.5, 60).tolist()
    axes.hist([widths, heights], bins=edges, color=SERIES[:2], label=["width", "height"])
    axes.set(xlabel="pixels", ylabel="photos")
    axes.legend(frameon=False)
    return figure
