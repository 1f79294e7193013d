"""Ingest, split and download against what people use instead, in one run against one local store.

    python -m benchmarks.data            everything, about 15 minutes on 2 cores
    python -m benchmarks.data --short    fewer objects, when there is less time; the results say how many
    python -m benchmarks.data --quick    a handful, to see that it works; writes no results

Every measurement is a process of its own, so that times and resident memory belong to it alone. Writes
results/data.json and results/data.md. All objects are made: no figure depends on data that is not in the repository.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel
from tqdm import tqdm

from benchmarks.data_table import Measured, table
from benchmarks.data_work import IMAGES_URI, METADATA_URI, RECORDS_NAME
from benchmarks.machine import machine
from benchmarks.tables import write_results
from components.core.layout import DATA_BUCKET, SOURCE_BUCKET, image_key, metadata_key
from components.core.records import RECORDS_SCHEMA, Record, TableWriter
from components.core.store import open_store
from pipeline.local_store import local_store
from tests.fakes.proxies import latency_proxy

LATENCY_SECONDS = 0.03
WIDTH, HEIGHT = 487, 334  # the median original
JPEG_KINDS = 50


class Sizes(BaseModel):
    """How much is measured."""

    images: int = 2000
    slow_images: int = 300  # for the loop at 30 ms, which does 15 a second
    metadata: int = 10_000
    slow_metadata: int = 4000
    ingests: tuple[int, ...] = (25_000, 50_000, 100_000)
    rows: int = 364_073
    repeats: int = 2


def measure(name: str, items: int, latency_ms: int = 0) -> Measured:
    """Run one piece of work of `data_work` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.data_work", name, str(items)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        raise SystemExit(f"{name} failed")
    took = json.loads(process.stdout.strip().splitlines()[-1])
    measured = Measured(name=name, latency_ms=latency_ms, items=items, **took)
    print(
        f"{name:24} {latency_ms:3} ms {items:8,} {measured.seconds:8.2f} s, of processor {measured.cpu_seconds:6.2f} "
        f"{measured.rate:9,.0f}/s {measured.peak_mb:6.0f} MB"
    )
    return measured


@cache
def made_jpeg(kind: int) -> bytes:
    """A photo of the originals' size in pixels and about their size in bytes (57 kB)."""
    draw = np.random.default_rng(kind)
    coarse = Image.fromarray(draw.integers(0, 256, (24, 36, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
    noisy = np.asarray(coarse).astype(np.int16) + draw.integers(-16, 17, (HEIGHT, WIDTH, 1), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def made_metadata(number: int) -> bytes:
    """A metadata file like a real one of three products."""
    measure = {"unit": "IN", "value": 3.90157479917}
    contents = {
        f"B{number:07d}{place}": {
            "asin": f"B{number:07d}{place}",
            "name": "Suncatcher - Axicon Rainbow Window - Includes Bonus Rainbow on Board Sun Catcher",
            "normalizedName": "Suncatcher - Axicon Rainbow Window - Includes Bonus Rainbow on Board Sun Catcher",
            "quantity": 1 + (number + place) % 3,
            "height": measure, "length": measure, "width": measure,
            "weight": {"unit": "pounds", "value": 0.5},
        }
        for place in range(3)
    }  # fmt: skip
    total = sum(product["quantity"] for product in contents.values())  # type: ignore[misc]
    return json.dumps({"BIN_FCSKU_DATA": contents, "EXPECTED_QUANTITY": total}, indent=4).encode()


def make_records(path: Path, count: int) -> None:
    """A records table in which some bins share their contents with an earlier one."""
    with TableWriter.open(path, RECORDS_SCHEMA) as table:
        table.append(
            Record(f"{number:05d}", number % 11, 1, f"{number - (number % 10 == 0) * (number % 900):016x}", True)
            for number in range(1, count + 1)
        )


def fill(uri: str, key: Callable[[str], str], make: Callable[[int], bytes], numbers: range) -> None:
    """Put made objects."""
    store = open_store(uri)
    with ThreadPoolExecutor(16) as pool:
        work = pool.map(lambda number: store.put(key(f"{number:05d}"), make(number)), numbers)
        for _ in tqdm(work, total=len(numbers), desc=f"filling {uri}", mininterval=5):
            pass


@contextmanager
def latency(milliseconds: int) -> Iterator[None]:
    """The store with so much added to each request."""
    if milliseconds == 0:
        yield
        return
    near = os.environ["AWS_ENDPOINT_URL"]
    with latency_proxy(near, milliseconds / 1000) as far:
        os.environ["AWS_ENDPOINT_URL"] = far
        try:
            yield
        finally:
            os.environ["AWS_ENDPOINT_URL"] = near


def best(name: str, items: int, latency_ms: int, repeats: int) -> Measured:
    """The fastest of several runs: the others shared the machine with something."""
    return min((measure(name, items, latency_ms) for _ in range(repeats)), key=lambda run: run.seconds)


def compare_images(sizes: Sizes) -> list[Measured]:
    """Fetching, and fetching with checks and shards."""
    fill(IMAGES_URI, image_key, lambda number: made_jpeg(number % JPEG_KINDS), range(1, sizes.images + 1))
    runs = []
    for latency_ms in (0, int(LATENCY_SECONDS * 1000)):
        loop = sizes.slow_images if latency_ms else sizes.images
        with latency(latency_ms):
            runs.append(best("images-loop", loop, latency_ms, 1 if latency_ms else sizes.repeats))
            for name in ("images-ours", "fetch-boto3-threads", "fetch-s5cmd", "fetch-ours"):
                runs.append(best(name, sizes.images, latency_ms, sizes.repeats))  # noqa: PERF401 - one after the other
    return runs


def compare_metadata(sizes: Sizes) -> list[Measured]:
    """Reading metadata into records."""
    fill(METADATA_URI, metadata_key, made_metadata, range(1, sizes.metadata + 1))
    runs = []
    for latency_ms in (0, int(LATENCY_SECONDS * 1000)):
        with latency(latency_ms):
            for name in ("metadata-boto3-threads", "metadata-ours"):
                runs.append(best(name, sizes.metadata, latency_ms, sizes.repeats))  # noqa: PERF401
    return runs


def time_split(sizes: Sizes) -> list[Measured]:
    """The whole split step."""
    make_records(Path(os.environ["BENCH_FOLDER"]) / RECORDS_NAME, sizes.rows)
    return [best("split-step", sizes.rows, 0, sizes.repeats)]


def grow(sizes: Sizes) -> list[Measured]:
    """The whole ingest step on more and more objects."""
    runs, there = [], sizes.metadata
    for count in sizes.ingests:
        fill(METADATA_URI, metadata_key, made_metadata, range(there + 1, count + 1))
        there = count
        runs.append(best("ingest-step", count, 0, 1))
    return runs


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer objects")
    parser.add_argument("--quick", action="store_true", help="smaller numbers; writes no results")
    parser.add_argument("--note", default="", help="what a reader should know about this run")
    given = parser.parse_args()
    quick = given.quick
    sizes = Sizes()
    if given.short:
        sizes = Sizes(images=500, slow_images=100, metadata=2000, ingests=(3000, 6000, 12_000), repeats=1)
    if quick:
        sizes = Sizes(images=200, slow_images=40, metadata=500, ingests=(600, 900), rows=20_000, repeats=1)
    folder = Path(tempfile.mkdtemp(prefix="bench-data-"))
    try:
        with local_store(folder / "store", (SOURCE_BUCKET, DATA_BUCKET)) as store:
            os.environ.update(store.environment())
            os.environ["BENCH_FOLDER"] = str(folder)
            runs: list[Measured] = []
            for part in (compare_images, compare_metadata, time_split, grow):
                runs += part(sizes)
                if not quick:
                    write(runs, given.note)  # after every part, so that a run that is stopped leaves what it has
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write(runs: list[Measured], note: str) -> None:
    """results/data.json for programs, results/data.md for people."""
    here, today = machine(), date.today().isoformat()
    document = {"date": today, "machine": here, "note": note, "runs": [run.model_dump() for run in runs]}
    write_results("data", document, table(runs, here, today, note))


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s in all")
