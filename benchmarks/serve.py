"""`make bench-serve`: this server against its alternatives, on the same photos, in the same run.

Rounds go through all servers in turn, so that a slow minute of the machine hits all of them; figures are medians of the
rounds, and the goals are ratios.
"""

import argparse
import base64
import contextlib
import datetime
import json
import os
import platform
import statistics
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.machine import machine
from benchmarks.serving.bundles import make_bundles
from benchmarks.serving.load import Target, at_rate, quantile, saturate
from benchmarks.serving.servers import Started, bentoml, litserve, ours, running, stock
from benchmarks.tables import RESULTS, markdown_table, told, write_results
from components.core.bundle import Bundle, Precision
from components.core.pixels import decode_squashed
from components.core.runtime import Runtime, open_runtime
from drawn.bins import draw_bins

ORIGINALS = Path(__file__).parent.parent.parent / "shared" / "abid" / "originals.tar"
PHOTOS = 300  # under load
COMPARED = 500  # whose answers are compared with evaluate's
PROBES = ("/v2/health/live", "/v2/health/ready")
SIZE = 224
CONNECTIONS = 16
LONGEST_GROWTH = 120.0  # seconds for the 10,000 requests between which memory is compared
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16", "int8")
BACKBONES = ("tf_efficientnet_lite0", "resnet18")
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Row:
    """One row of the table: what was measured, against what, and whether the goal was met."""

    what: str
    goal: str
    ours: str
    other: str
    ratio: float
    met: bool


class Measurements:
    """Figures by name, one list entry a round."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """Note one figure."""
        self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """The middle of a figure's rounds."""
        return statistics.median(self.values[name])


def main() -> None:
    """Measure, and write serve.json and serve.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one saturation run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for serve.json and serve.md")
    arguments = parser.parse_args()
    compared, origin = load_photos()
    photos = compared[:PHOTOS]
    found = Measurements()
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as name:
        folder = Path(name)
        pixels = np.stack([decode_squashed(photo, SIZE) for photo in photos[:128]])
        bundles = {backbone: make_bundles(folder, backbone, pixels, PRECISIONS) for backbone in BACKBONES}
        for backbone in BACKBONES:
            measure(backbone, bundles[backbone], photos, found, folder, arguments)
        agreement = compare_answers(bundles["tf_efficientnet_lite0"]["f32"], compared, folder)
    rows = [row for backbone in BACKBONES for row in table(backbone, found)]
    rows.append(agreement)
    write(rows, found, origin, arguments)
    sys.exit(0)


def load_photos() -> tuple[list[bytes], str]:
    """500 photos as a camera would send them: real originals where they are at hand, else drawn ones."""
    if ORIGINALS.is_file():
        with tarfile.open(ORIGINALS) as archive:
            files = sorted((member for member in archive if member.isfile()), key=lambda member: member.name)[:COMPARED]
            extracted = [archive.extractfile(member) for member in files]
            return [file.read() for file in extracted if file is not None], "real originals"
    drawn = [drawn_bin.jpeg for drawn_bin in draw_bins(COMPARED + 40, 0) if drawn_bin.jpeg is not None]
    usable = [jpeg for jpeg in drawn if jpeg.endswith(b"\xff\xd9")]
    return usable[:COMPARED], "drawn bins"


def measure(
    backbone: str,
    bundles: dict[Precision, Bundle],
    photos: list[bytes],
    found: Measurements,
    folder: Path,
    arguments: argparse.Namespace,
) -> None:
    """All rounds of one backbone: the bare loops, and every server at saturation, at 70 % and idle."""
    launches = [stock(f"{backbone} stock", backbone)]
    launches += [ours(f"{backbone} ours {precision}", bundle.folder) for precision, bundle in bundles.items()]
    launches.append(litserve(f"{backbone} litserve f32", bundles["f32"].folder))
    launches.append(bentoml(f"{backbone} bentoml f32", bundles["f32"].folder))
    for number in tqdm(range(arguments.rounds), desc=backbone, unit="round"):
        for precision, bundle in bundles.items():
            bare(f"{backbone} bare {precision}", bundle, photos, found, arguments.seconds)
        for launch in launches:
            with running(launch, folder / "log") as server:
                found.add(f"{launch.name} start", server.seconds_to_ready)
                found.add(f"{launch.name} start cpu", server.cpu_seconds)
                visit(server, photos, found, arguments.seconds, last=number == arguments.rounds - 1)


def visit(server: Started, photos: list[bytes], found: Measurements, seconds: float, *, last: bool) -> None:
    """One server's turn in a round."""
    name = server.launch.name
    target = target_of(server, photos)
    saturate(target, CONNECTIONS, 1.0)
    used = server.cpu_seconds
    outcome = saturate(target, CONNECTIONS, seconds)
    if set(outcome.statuses) != {200}:
        raise SystemExit(f"error: {name} answered {outcome.statuses}")
    found.add(f"{name} rate", outcome.rate)
    found.add(f"{name} cpu per photo", (server.cpu_seconds - used) / len(outcome.seconds))
    found.add(f"{name} memory", server.memory)
    found.add(f"{name} idle p50", saturate(target, 1, seconds / 2).quantile(0.5))
    if "ours f32" not in name:
        return
    steady = at_rate(target, 0.7 * outcome.rate, seconds)
    found.add(f"{name} p50 at 70 %", steady.quantile(0.5))
    found.add(f"{name} p99 at 70 %", steady.quantile(0.99))
    found.add(f"{name} generator late at 70 %, p99", quantile(steady.late, 0.99))
    probes = saturate(target, CONNECTIONS, seconds / 2, PROBES).probes
    found.add(f"{name} probe p50", quantile(probes, 0.5))
    found.add(f"{name} probe p99", quantile(probes, 0.99))
    if last and name == f"{BACKBONES[0]} ours f32":
        before, answered = server.memory, 0
        end = time.perf_counter() + LONGEST_GROWTH
        while answered < 10_000 and time.perf_counter() < end:
            answered += saturate(target, CONNECTIONS, 5.0).statuses[200]
        found.add(f"{name} growth", server.memory / before)
        found.add(f"{name} growth requests", answered)


def bare(name: str, bundle: Bundle, photos: list[bytes], found: Measurements, seconds: float) -> None:
    """Decode and infer without a server: both cores busy with a thread each, and one photo after the other."""
    parallel = open_runtime(bundle, "openvino", threads=CORES, streams=CORES)
    done = [0] * CORES

    def loop(worker: int) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            count_one(parallel, photos[(done[worker] * CORES + worker) % len(photos)])
            done[worker] += 1

    workers = [threading.Thread(target=loop, args=(worker,)) for worker in range(CORES)]
    count_one(parallel, photos[0])
    started, used = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found.add(f"{name} rate", sum(done) / (time.perf_counter() - started))
    found.add(f"{name} cpu per photo", (time.process_time() - used) / sum(done))
    if name.endswith("f32"):
        found.add(f"{name} single", single_time(open_runtime(bundle, "openvino", threads=CORES), photos, seconds / 2))


def count_one(runtime: Runtime, photo: bytes) -> None:
    """Decode and infer one photo."""
    runtime.predict(decode_squashed(photo, SIZE)[None])


def single_time(runtime: Runtime, photos: list[bytes], seconds: float) -> float:
    """Median time of one photo, with every core working on it."""
    times: list[float] = []
    count_one(runtime, photos[0])
    while sum(times) < seconds:
        started = time.perf_counter()
        count_one(runtime, photos[len(times) % len(photos)])
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def target_of(server: Started, photos: list[bytes]) -> Target:
    """The photos in the form that a server takes."""
    bodies: dict[str, Callable[[bytes], bytes]] = {
        "raw": lambda photo: photo,
        "b64": lambda photo: json.dumps({"b64": base64.b64encode(photo).decode()}).encode(),
        "image": lambda photo: json.dumps(
            {"instances": [{"image": {"b64": base64.b64encode(photo).decode()}}]}
        ).encode(),
    }
    kind = "image/jpeg" if server.launch.body == "raw" else "application/json"
    return Target.of(server.port, server.launch.predict_path, [bodies[server.launch.body](p) for p in photos], kind)


def compare_answers(bundle: Bundle, photos: list[bytes], folder: Path) -> Row:
    """What is served against what evaluate computes for the same photos at the same precision."""
    import httpx

    runtime = open_runtime(bundle)
    expected = runtime.predict(np.stack([decode_squashed(photo, SIZE) for photo in photos]))
    with (
        running(ours("agreement", bundle.folder), folder / "log") as server,
        contextlib.closing(httpx.Client()) as client,
    ):
        address = f"http://127.0.0.1:{server.port}{server.launch.predict_path}"
        replies = [client.post(address, content=photo).json()["predictions"][0] for photo in photos]
    counts = np.array([reply["count"] for reply in replies])
    largest = float(np.abs(np.array([reply["scores"] for reply in replies]) - expected.scores).max())
    same = int((counts == expected.counts).sum())
    return Row(
        f"answers against evaluate's, {len(photos)} photos",
        "every count, scores within 1e-4",
        f"{same}/{len(photos)} counts",
        f"largest difference {largest:.1e}",
        same / len(photos),
        same == len(photos) and largest < 1e-4,
    )


def table(backbone: str, found: Measurements) -> list[Row]:
    """The goals of one backbone, from the medians."""
    lite = backbone == "tf_efficientnet_lite0"
    best = max(PRECISIONS, key=lambda precision: found.median(f"{backbone} ours {precision} rate"))

    def compare(what: str, mine: str, other: str, goal: float, unit: str, *, least: bool) -> Row:
        scale, digits = {"/s": (1.0, 0), "ms": (1e3, 1), "MB": (1e-6, 0), "s": (1.0, 2)}[unit]
        a, b = found.median(f"{backbone} {mine}"), found.median(f"{backbone} {other}")
        show = lambda value: f"{value * scale:.{digits}f} {unit}"  # noqa: E731
        met = a / b >= goal if least else a / b <= goal
        name = f"{'EfficientNet-Lite0' if lite else 'ResNet-18'}: {what}"
        return Row(name, f"{'≥' if least else '≤'} {goal:.3g}", show(a), show(b), a / b, met)

    mine, fastest, stock_rate, single = "ours f32 rate", f"ours {best} rate", "stock rate", "bare f32 single"
    return [
        compare("saturation, f32, against stock KServe", mine, stock_rate, 2.5 if lite else 1.4, "/s", least=True),
        compare(
            f"saturation, best precision ({best}), against stock KServe",
            fastest, stock_rate, 4.0 if lite else 2.5, "/s", least=True,
        ),
        compare("saturation against LitServe, f32", "ours f32 rate", "litserve f32 rate", 1.0, "/s", least=True),
        compare("saturation against BentoML, f32", "ours f32 rate", "bentoml f32 rate", 1.0, "/s", least=True),
        compare("saturation against the bare loop, f32", mine, "bare f32 rate", 0.8, "/s", least=True),
        compare(f"saturation against the bare loop, {best}", fastest, f"bare {best} rate", 0.8, "/s", least=True),
        compare("p99 at 70 % of saturation to one bare photo", "ours f32 p99 at 70 %", single, 3.0, "ms", least=False),
        compare("idle p50 against one bare photo", "ours f32 idle p50", single, 1.5, "ms", least=False),
        probes(backbone, found),
        compare("start to ready against stock KServe", "ours f32 start", "stock start", 0.5, "s", least=False),
        compare("resident memory against stock KServe", "ours f32 memory", "stock memory", 0.5, "MB", least=False),
        *(
            compare(f"processor time a photo against {other}, f32", "ours f32 cpu per photo",
                    f"{measured} cpu per photo", goal, "ms", least=False)
            for other, measured, goal in (
                ("stock KServe", "stock", 1 / 2.5 if lite else 1 / 1.4),
                ("LitServe", "litserve f32", 1.0),
                ("BentoML", "bentoml f32", 1.0),
                ("the bare loop", "bare f32", 1.25),
            )
        ),
        *([growth(backbone, found)] if lite else []),
    ]  # fmt: skip


def probes(backbone: str, found: Measurements) -> Row:
    """Health probes beside a saturating load, which shares the cores and the event loop of whoever asks."""
    median, slow = (found.median(f"{backbone} ours f32 probe {share}") for share in ("p50", "p99"))
    name = "EfficientNet-Lite0" if backbone == BACKBONES[0] else "ResNet-18"
    return Row(
        f"{name}: p99 of health probes at saturation", "≤ 50 ms", f"{slow * 1e3:.1f} ms", f"p50 {median * 1e3:.1f} ms",
        slow / 0.05, slow <= 0.05,
    )  # fmt: skip


def growth(backbone: str, found: Measurements) -> Row:
    """Memory after 10,000 requests, or as many as there was time for, against memory before."""
    ratio, answered = (found.median(f"{backbone} ours f32 {figure}") for figure in ("growth", "growth requests"))
    what = f"EfficientNet-Lite0: memory after {answered:,.0f} more requests"
    return Row(what, "≤ 1.05", f"{ratio:.3f}", "1", ratio, ratio <= 1.05)


def write(rows: list[Row], found: Measurements, origin: str, arguments: argparse.Namespace) -> None:
    """serve.json for programs, serve.md for people."""
    folder: Path = arguments.results
    setting: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "python": platform.python_version(),
        "photos": f"{PHOTOS} {origin}",
        "connections": CONNECTIONS,
        "rounds": arguments.rounds,
        "load_average": os.getloadavg()[2],
        "seconds": arguments.seconds,
    }
    late = found.median(f"{BACKBONES[0]} ours f32 generator late at 70 %, p99")
    content = {"setting": setting, "rows": [vars(row) for row in rows], "figures": found.values}
    lines = [
        "# Serving",
        "",
        f"`make bench-serve`, {setting['date']}, {setting['machine']}; {setting['photos']}; {CONNECTIONS}",
        "connections. Where other work shares the machine, the rows of processor time are the ones to trust.",
        f"Medians of {arguments.rounds} rounds through all servers. The load generator shares the cores; at 70 %",
        f"it sends at even times and was itself late by {late * 1e3:.1f} ms (p99), which counts as time of the",
        f"answer. Load average {setting['load_average']:.0f}.",
        "",
        *markdown_table(
            ["what", "ours", "other", "ratio", "goal", ""],
            [(row.what, row.ours, row.other, f"{row.ratio:.2f}", row.goal, told(row.met)) for row in rows],
        ),
        "",
    ]
    lines += soak_lines(folder / "soak.json")
    write_results("serve", content, lines, folder)
    print("\n".join(lines))


def soak_lines(path: Path) -> list[str]:
    """What the last `make soak-serve` found, where there was one."""
    if not path.exists():
        return []
    soak = json.loads(path.read_text())
    undeserved = soak["undeserved"] or "none"
    return [
        f"Soak (`make soak-serve`, {soak['date']}): {soak['seconds']:.0f} s at saturation, {soak['answered']:,} photos "
        f"answered, {soak['refused']:,} bad inputs refused; errors that were not deserved: {undeserved}; resident "
        f"memory {soak['memory_start_mb']:.0f} MB after a tenth of it, {soak['memory_end_mb']:.0f} MB at the end.",
        "",
    ]


if __name__ == "__main__":
    main()
