"""The page about a download: the photos' dimensions, near-identical ones, what was left out."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from components.core.records import Reject
from components.core.report import SERIES, Number, Report, new_axes
from components.download.near import NEAR_BITS, count_by_side, near_pairs
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
    pairs = near_pairs([base64.b64decode(photo.hash) for photo in photos])
    _near(report, photos, pairs, sides)
    report.heading("Left out")
    if rejects:
        reasons = Counter(reject.reason for reject in rejects).most_common()
        report.table(["reason", "photos"], [list(each) for each in reasons], "By reason")
        rows = [[reject.key, reject.reason, reject.detail] for reject in rejects[:SHOWN]]
        report.table(["key", "reason", "detail"], rows, f"The first {len(rows)}; all are in the rejects table")
    else:
        report.text("Nothing was left out.")
    report.write(path)


def _near(report: Report, photos: Sequence[Look], pairs: Sequence[tuple[int, int]], sides: Mapping[str, str]) -> None:
    of_photo = [sides[photo.image_id] for photo in photos]
    counts = count_by_side(pairs, of_photo)
    across = sum(count for name, count in counts.items() if "-" in name)
    print(f"near-identical photos: {len(pairs):,} pairs, {across:,} of them across subsets")
    report.heading("Near-identical photos")
    if not pairs:
        report.text("None.")
        return
    report.table(
        ["subsets", "pairs"], [list(each) for each in counts.items()], f"Hashes within {NEAR_BITS} of 256 bits"
    )
    crossing = [(one, other) for one, other in pairs if of_photo[one] != of_photo[other]]
    rows = [
        [photos[one].image_id, photos[other].image_id, f"{of_photo[one]}-{of_photo[other]}"]
        for one, other in crossing[:SHOWN]
    ]
    if rows:
        report.table(["photo", "and", "subsets"], rows, f"The first {len(rows)} across subsets")


def _dimensions(widths: "np.ndarray", heights: "np.ndarray") -> Figure:
    figure, axes = new_axes()
    low, high = min(widths.min(), heights.min()), max(widths.max(), heights.max())
    edges = np.linspace(low - 0.5, max(high, low + 60) + 0.5, 60).tolist()
    axes.hist([widths, heights], bins=edges, color=SERIES[:2], label=["width", "height"])
    axes.set(xlabel="pixels", ylabel="photos")
    axes.legend(frameon=False)
    return figure
