"""Training against what people use instead, in one run on one machine.

    python -m benchmarks.train            everything, about 15 minutes on 2 idle cores
    python -m benchmarks.train finetune   one part of it: original, full-size, finetune, processes, memory, gpu
    python -m benchmarks.train --quick    smaller numbers, to see that it works; writes nothing

Writes results/train.json and results/train.md. All photos are drawn or made: no figure depends on data that is not in
the repository; the accuracies on the real sample stand in results/accuracy.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import date
from pathlib import Path

import numpy as np
import psutil
import torch
from pydantic import BaseModel
from torch import nn

from benchmarks import train_gpu
from benchmarks.machine import machine
from benchmarks.tables import RESULTS, markdown_table, told, write_results
from benchmarks.train_plain import train_plainly
from benchmarks.workbench import Bins, Row, drawn_bins, made_bins
from components.core.bundle import read_bundle
from components.core.defaults import BACKBONE
from components.core.intervals import proportion_interval
from components.core.pixel_cache import PixelCache, open_pixels
from components.core.recipe import choose_recipe
from components.core.runtime import open_runtime
from components.core.shards import ShardIndex
from components.train.job import Job, Outputs
from components.train.loop.distributed import Processes
from components.train.network.backbones import create_backbone
from components.train.network.model import Classes, Counter, Head
from components.train.train import train
from pipeline.local_store import local_store

Step = Callable[[], None]
CPU = torch.device("cpu")


class Part(BaseModel):
    """The rows of one part, and for `finetune` what each ingredient brings."""

    rows: list[Row]
    ingredients: list[list[str]] = []


PARTS = {
    "original": "`original`, 10 epochs, CPU: ours against a plain torchvision loop",
    "full-size": "`original`, ResNet-18, on the size of the original, CPU, from shards to bundle",
    "finetune": "`finetune`, CPU, images a second against plain eager f32",
    "processes": "two processes of one thread against one",
    "memory": "resident memory while reading decoded photos of growing sets",
    "gpu": "the goals that need a data-centre GPU",
}


class Sizes(BaseModel):
    """How much is measured."""

    drawn: int = 1000
    epochs: int = 10
    original: tuple[int, int, int] = (10_441, 1015, 1003)
    rounds: int = 6
    process_images: int = 256
    memory: tuple[int, ...] = (125_000, 250_000, 500_000)
    gpu: tuple[int, int, int] = (20_000, 500, 5)  # photos for training, validation and testing


QUICK = Sizes(
    drawn=150,
    epochs=2,
    original=(400, 50, 50),
    rounds=2,
    process_images=64,
    memory=(20_000, 40_000),
    gpu=(512, 20, 5),
)


def run_ours(
    bins: Bins,
    recipe_name: str,
    backbone: str,
    weights: str,
    folder: Path,
    device: torch.device = CPU,
    **fields: object,
) -> float:
    """Our train step from shards to bundle; returns its seconds, starting without decoded photos or features."""
    recipe = choose_recipe(recipe_name, backbone=backbone, overrides=json.dumps({"serving": "f32", **fields}))
    outputs = Outputs(folder / "bundle", folder / "report.html", folder / "curves.png")
    start = time.perf_counter()
    train(Job(bins.index, bins.splits, recipe, 5, weights=weights), outputs, Processes(0, 1, device))
    return time.perf_counter() - start


def original_against_plain(sizes: Sizes, folder: Path) -> list[Row]:
    """The original recipe: ours against the plain loop, on drawn bins, with the packaged backbone."""
    bins = drawn_bins(sizes.drawn, folder / "drawn")
    ours = run_ours(bins, "original", BACKBONE, "", folder / "ours", epochs=sizes.epochs)
    parts = [bins.photos(name) for name in ("train", "validation", "test")]
    plain = train_plainly(create_backbone(BACKBONE), parts[0], parts[1], parts[2], sizes.epochs)
    truth = np.array([quantity for _, quantity in parts[2]])
    bundle = read_bundle(folder / "ours" / "bundle")
    cache = open_pixels(ShardIndex.read(bins.index), bundle.info.image_size)
    rows = [cache.rows[image_id] for image_id in bins.ids("test")]
    counts = open_runtime(bundle).predict(cache.read(rows)).counts
    accuracy = float((counts == truth).mean())
    low, high = proportion_interval(int((counts == truth).sum()), len(truth))
    theirs = float((np.array(plain.answers) == truth).mean())
    images = len(parts[0]) + len(parts[1])
    return [
        Row(
            what=f"`original` ({BACKBONE}), {sizes.epochs} epochs, {images} drawn bins, CPU: ours against a plain loop",
            result=f"{ours:.1f} s against {plain.seconds:.1f} s: {plain.seconds / ours:.1f} times",
            goal="at least 10 times",
            met=plain.seconds / ours >= 10,
        ),
        Row(
            what="the same: test accuracy",
            result=f"{accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}) against {theirs:.1%}, {len(truth)} bins",
            goal="within its interval",
            met=low <= theirs <= high,
        ),
    ]


def original_at_full_size(sizes: Sizes, folder: Path) -> Row:
    """The original recipe with ResNet-18 on as many photos as the original had, from shards to bundle."""
    bins = made_bins(sizes.original, folder / "full")
    seconds = run_ours(bins, "original", "resnet18", "random", folder / "full-ours")
    return Row(
        what=f"`original`, ResNet-18, {sum(sizes.original):,} photos of its size, CPU, from shards to bundle",
        result=f"{seconds:.0f} s (the original on a T4: 1,059 s)",
        goal="under 180 s",
        met=seconds < 180,
    )


def finetune_step(channels_last: bool, bf16: bool, frozen: bool, size: int = 224, batch: int = 32) -> Step:
    """One training step of all layers on random photos."""
    backbone, classes = create_backbone(BACKBONE), Classes(5, True)
    model: nn.Module = Counter(backbone, Head(backbone.features, classes.number)).train()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    if frozen:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    photos = torch.randn(batch, 3, size, size).contiguous(memory_format=layout)
    labels = torch.randint(0, classes.number, (batch,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            logits = model(photos)
        optimiser.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimiser.step()

    return step


def finetune_speed(sizes: Sizes) -> tuple[Row, list[list[str]]]:
    """Images a second of each ingredient. Rounds take turns, so that other load on the machine falls on all alike."""
    kinds = {
        "eager f32": (False, False, False),
        "channels last": (True, False, False),
        "bf16": (False, True, False),
        "channels last, bf16": (True, True, False),
        "channels last, bf16, batch norm frozen (ours)": (True, True, True),
    }
    steps = {name: finetune_step(*options) for name, options in kinds.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(sizes.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_number:  # the first warms up
                times[name].append(time.perf_counter() - start)
    rates = {name: 32 / statistics.median(values) for name, values in times.items()}
    plain, ours = rates["eager f32"], rates["channels last, bf16, batch norm frozen (ours)"]
    row = Row(
        what="`finetune`, CPU, EfficientNet-Lite0 at 224 px, images a second against plain eager f32",
        result=f"{ours:.1f}/s against {plain:.1f}/s: {ours / plain:.1f} times",
        goal="at least 1.5 times",
        met=ours / plain >= 1.5,
    )
    return row, [[name, f"{rate:.1f}", f"{rate / plain:.2f}"] for name, rate in rates.items()]


def two_processes(sizes: Sizes, folder: Path) -> Row:
    """Two processes of one thread against one process of one thread, same global batch, by torchrun."""
    bins = drawn_bins(sizes.process_images, folder / "few")
    fields = json.dumps({"batch_size": 32, "serving": "f32", "small_epochs_share": 0, "ema_decay": 0})
    rates = []
    for number in (1, 2):
        output = folder / f"processes-{number}"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
        command += ["-m", "components.train", "--shard-index", str(bins.index), "--splits", str(bins.splits)]
        command += ["--epochs", "3", "--image-size", "160", "--overrides", fields, "--output", str(output)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        epochs = json.loads((output / "history.json").read_text())["epochs"]
        rates.append(max(epoch["images"] / epoch["seconds"] for epoch in epochs))
    return Row(
        what="two processes of one thread against one (torchrun, gloo), `finetune` at 160 px, images a second",
        result=f"{rates[1]:.1f}/s against {rates[0]:.1f}/s: {rates[1] / rates[0]:.2f} times",
        goal="at least 1.7 times",
        met=rates[1] / rates[0] >= 1.7,
    )


def resident_memory(sizes: Sizes, folder: Path) -> Row:
    """Growth of resident memory with the number of decoded photos, batches drawn from all over the file."""
    process, size = psutil.Process(), 64
    grown = []
    for number in sizes.memory:
        path = folder / "sparse.u8"
        with path.open("wb") as file:
            file.truncate(number * size * size * 3)
        checksums = np.full(number, zlib.crc32(bytes(size * size * 3)), np.uint32)
        cache = PixelCache(path, size, {}, checksums, made_by="")
        random = np.random.default_rng(0)
        cache.read(random.integers(0, number, 512))  # the first batch grows the heap once
        before = process.memory_info().rss
        for _ in range(number // 512):
            cache.read(random.integers(0, number, 512))
        grown.append((process.memory_info().rss - before) / 1e6)
        path.unlink()
    slope = np.polyfit(np.array(sizes.memory) / 1e5, grown, 1)[0]
    return Row(
        what=f"resident memory while reading {', '.join(f'{number:,}' for number in sizes.memory)} decoded photos",
        result=f"grows by {', '.join(f'{value:.1f}' for value in grown)} MB: {slope:+.2f} MB for 100,000 photos more",
        goal="flat",
        met=bool(slope < 1),
    )


def table(rows: Sequence[Row], ingredients: Sequence[Sequence[str]], head: dict[str, str]) -> list[str]:
    """The results for people, in Markdown."""
    lines = [
        "# Training speed",
        "",
        f"`make bench-train`, {head['date']}, {head['machine']}. Alternatives ran in the same run.",
        "",
        *markdown_table(
            ["what", "result", "goal", ""], [(row.what, row.result, row.goal, told(row.met)) for row in rows]
        ),
    ]
    if ingredients:
        lines += ["", "What makes a `finetune` step faster on a CPU (batch 32, 224 px):", ""]
        lines += markdown_table(["", "images a second:", "times plain:"], ingredients)
    return lines


def measure(part: str, sizes: Sizes, folder: Path) -> Part:
    """Measure one part."""
    if part == "original":
        return Part(rows=original_against_plain(sizes, folder))
    if part == "full-size":
        return Part(rows=[original_at_full_size(sizes, folder)])
    if part == "finetune":
        row, ingredients = finetune_speed(sizes)
        return Part(rows=[row], ingredients=ingredients)
    if part == "processes":
        return Part(rows=[two_processes(sizes, folder)])
    if part == "gpu":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        bins, original = made_bins(sizes.gpu, folder / "gpu"), made_bins(sizes.original, folder / "gpu-original")
        seconds = run_ours(original, "original", "resnet18", "random", folder / "gpu-ours", device)
        return Part(rows=train_gpu.rows(bins, device, 5 * sizes.rounds, seconds))
    return Part(rows=[resident_memory(sizes, folder)])


def write(parts: dict[str, Part]) -> None:
    """Write the results of these parts, and of those measured before."""
    path = RESULTS / "train.json"
    known = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    merged = {name: Part.model_validate(part) for name, part in known["parts"].items()} | parts
    # The rows of a GPU name it themselves, and the others may be from a machine without.
    here = {"machine": machine(), "date": date.today().isoformat()}
    head = {name: known[name] for name in here} if "machine" in known and set(parts) == {"gpu"} else here
    content = head | {"parts": {name: merged[name].model_dump() for name in PARTS if name in merged}}
    rows = [row for name in PARTS for row in (merged[name].rows if name in merged else _unmeasured(name))]
    ingredients = merged["finetune"].ingredients if "finetune" in merged else []
    write_results("train", content, table(rows, ingredients, head))


def _unmeasured(part: str) -> list[Row]:
    why = "needs a GPU" if part == "gpu" else f"`python -m benchmarks.train {part}`"
    return [
        Row(what=what, result=f"not measured: {why}", goal=goal, met=None)
        for what, goal in (train_gpu.GOALS if part == "gpu" else {PARTS[part]: ""}).items()
    ]


def main() -> None:
    """Measure and write the results; each part is written as soon as it is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="smaller numbers, to see that it works; writes nothing")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, local_store(Path(name) / "store") as store:
        folder = Path(name)
        os.environ.update({**store.environment(), "BIN_COUNTER_CACHE": str(folder / "cache")})
        for part in given.parts or PARTS:
            if part == "gpu" and not (torch.cuda.is_available() or given.quick):
                print("gpu: not measured, this machine has none")
                continue
            measured = measure(part, QUICK if given.quick else Sizes(), folder)
            for row in measured.rows:
                print(f"{row.what}: {row.result} (goal: {row.goal})", flush=True)
            if not given.quick:
                write({part: measured})


if __name__ == "__main__":
    main()
