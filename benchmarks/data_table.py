"""The human table of benchmarks.data."""

from collections.abc import Sequence

from pydantic import BaseModel

from benchmarks.tables import markdown_table, told

FULL_SIZE = 536_434
FULL_BYTES = 30.5e9
COLUMNS = ("measurement", "added latency:", "items:", "seconds:", "of processor:", "items a second:", "peak MB:")


class Measured(BaseModel):
    """One process: what it did how often, in what time, with what peak of resident memory."""

    name: str
    latency_ms: int
    items: int
    seconds: float
    cpu_seconds: float
    peak_mb: float

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds


def table(runs: Sequence[Measured], machine: str, day: str, note: str = "") -> list[str]:
    """Markdown with a row for every goal, whether it was reached, and the single measurements."""
    return [
        "# Data",
        "",
        f"`make bench-data`, {day}, {machine}; a local store on the same machine, made objects.",
        *([note] if note else []),
        "",
        *markdown_table(
            ["what", "result", "goal", ""],
            [(what, result, goal, told(met)) for what, result, goal, met in _goals(runs)],
        ),
        "",
        *_on_paper(runs),
        "",
        *markdown_table(COLUMNS, [_cells(run) for run in runs]),
    ]


def _cells(run: Measured) -> list[str]:
    return [
        run.name,
        f"{run.latency_ms} ms",
        f"{run.items:,}",
        f"{run.seconds:.2f}",
        f"{run.cpu_seconds:.2f}",
        f"{run.rate:,.0f}",
        f"{run.peak_mb:.0f}",
    ]


def _goals(runs: Sequence[Measured]) -> list[tuple[str, str, str, bool]]:
    goals = []

    def compare(what: str, ours: str, other: str, latency_ms: int, goal: float) -> None:
        found = _find(runs, ours, latency_ms), _find(runs, other, latency_ms)
        if found[0] is None or found[1] is None:
            return
        one, two = found[0].rate, found[1].rate
        result = f"{one:,.0f}/s against {two:,.0f}/s: {one / two:.1f} times"
        goals.append((f"{what}, {latency_ms} ms", result, f"at least {goal:g} times", one / two >= goal))

    sharded = "images fetched, checked and sharded, against the loop of `download_file`"
    compare(sharded, "images-ours", "images-loop", 0, 4)
    compare(sharded, "images-ours", "images-loop", 30, 30)
    for latency_ms in (0, 30):
        compare("images fetched to disk, against `s5cmd cp`", "fetch-ours", "fetch-s5cmd", latency_ms, 1.2)
    for latency_ms in (0, 30):
        compare(
            "metadata to records, against boto3 with 32 threads",
            "metadata-ours",
            "metadata-boto3-threads",
            latency_ms,
            3,
        )
    if split := _find(runs, "split-step", 0):
        result = f"{split.seconds:.1f} s, {split.peak_mb:.0f} MB"
        goals.append(
            (f"split of {split.items:,} rows", result, "5 s, 1 GB", split.seconds < 5 and split.peak_mb < 1000)
        )
    return goals + _growth(runs)


def _growth(runs: Sequence[Measured]) -> list[tuple[str, str, str, bool]]:
    ingests = [run for run in runs if run.name == "ingest-step"]
    if len(ingests) < 2:
        return []
    rates, peaks = [run.rate for run in ingests], [run.peak_mb for run in ingests]
    counts = ", ".join(f"{run.items:,}" for run in ingests)
    times = ", ".join(f"{run.seconds:.0f} s" for run in ingests)
    peak = ", ".join(f"{peak:.0f} MB" for peak in peaks)
    flat = max(peaks) <= 1.1 * min(peaks) and max(peaks) < 600
    return [
        (f"ingest of {counts} objects: time", times, "linear (rates within 20 %)", max(rates) <= 1.2 * min(rates)),
        (f"ingest of {counts} objects: peak memory", peak, "flat within 10 %, under 600 MB", flat),
    ]


def _on_paper(runs: Sequence[Measured]) -> list[str]:
    ingests = [run for run in runs if run.name == "ingest-step"]
    far_metadata, far_images = _find(runs, "metadata-ours", 30), _find(runs, "images-ours", 30)
    images = _find(runs, "images-ours", 0)
    if not ingests or far_metadata is None or far_images is None or images is None:
        return []
    ingest = ingests[-1]
    line = FULL_BYTES / FULL_SIZE * far_images.rate * 8 / 1e6
    beside = f"ingest {_duration(FULL_SIZE / ingest.rate)}, download {_duration(FULL_SIZE / images.rate)}"
    far = f"{_duration(FULL_SIZE / far_metadata.rate)} and {_duration(FULL_SIZE / far_images.rate)}"
    return [
        f"On paper for all {FULL_SIZE:,} bins at the rates below: beside the store {beside}; at 30 ms {far}.",
        "Assumptions: one machine like this one, which in the measurement runs the store too (a far store leaves both",
        f"cores to us); no throttling; a line of {line:,.0f} Mbit/s for the photos; our shards go to a near store.",
    ]


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _find(runs: Sequence[Measured], name: str, latency_ms: int) -> Measured | None:
    return next((run for run in runs if run.name == name and run.latency_ms == latency_ms), None)
