"""One measurement of benchmarks.data as a process: does the work and prints what it took as the last line."""

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from components.core.concurrent import REQUESTS, Threads, in_order
from components.core.layout import DATA_BUCKET, SOURCE_BUCKET, image_key, metadata_key
from components.core.records import RECORDS_SCHEMA, Record, TableWriter
from components.core.store import open_store
from components.download.download import DownloadOptions, fetch_and_pack
from components.download.fetch import PORTION
from components.download.pack import PieceLog
from components.ingest_metadata.bucket import BucketReader
from components.ingest_metadata.ingest import IngestOptions, ingest
from components.ingest_metadata.parse import parse_metadata
from components.split.divide import SplitOptions
from components.split.split import split

IMAGES_URI = f"s3://{SOURCE_BUCKET}/images"
METADATA_URI = f"s3://{SOURCE_BUCKET}/metadata"
RECORDS_NAME = "made-records"
THREADS = 32
BATCH = 32


def ids(count: int) -> list[str]:
    """The first made ids."""
    return [f"{number:05d}" for number in range(1, count + 1)]


def client(connections: int = 10) -> Any:
    """A boto3 client as most people make it."""
    config = Config(max_pool_connections=connections, s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=config)


def fresh_data_uri() -> str:
    """A place of our bucket that knows nothing yet."""
    return f"s3://{DATA_BUCKET}/{uuid.uuid4().hex}"


def images_loop(count: int, folder: Path) -> None:
    """What the original did: download_file, one after the other; it checks nothing."""
    s3 = client()
    for image_id in ids(count):
        s3.download_file(SOURCE_BUCKET, f"images/{image_key(image_id)}", str(folder / f"{image_id}.jpg"))


def images_ours(count: int, folder: Path) -> None:
    """The download step without its report: fetched, checked, decoded, hashed, packed and stored as shards."""
    options = DownloadOptions(IMAGES_URI, fresh_data_uri())
    image_ids = ids(count)
    source, store = open_store(options.source), open_store(options.data_uri)
    log = PieceLog(store, str(source.location), image_ids, options.shard_bytes)
    asyncio.run(fetch_and_pack(options, source, log, image_ids, folder / "rejects"))


def fetch_boto3_threads(count: int, folder: Path) -> None:
    """download_file in threads."""
    s3 = client(THREADS)

    def one(image_id: str) -> None:
        s3.download_file(SOURCE_BUCKET, f"images/{image_key(image_id)}", str(folder / f"{image_id}.jpg"))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, ids(count)))


def fetch_s5cmd(count: int, folder: Path) -> None:
    """s5cmd cp with its defaults (256 workers)."""
    program = Path(sys.executable).with_name("s5cmd")
    source = f"s3://{SOURCE_BUCKET}/images/bin-images/*"
    command = [str(program), "--endpoint-url", os.environ["AWS_ENDPOINT_URL"], "cp", source, f"{folder}/"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert len(list(folder.glob("*.jpg"))) == count


def fetch_ours(count: int, folder: Path) -> None:
    """Our store's client, to disk; length and ETag are checked on the way."""
    store = open_store(IMAGES_URI)

    def save(image_id: str) -> None:
        (folder / f"{image_id}.jpg").write_bytes(store.fetch(image_key(image_id)))

    async def run() -> None:
        names = ids(count)
        batches = (names[start : start + BATCH] for start in range(0, count, BATCH))
        with Threads() as threads:
            async for _ in in_order(batches, lambda batch: threads.each(save, batch, PORTION), 2 * REQUESTS // BATCH):
                pass

    asyncio.run(run())


def metadata_boto3_threads(count: int, folder: Path) -> None:
    """get_object in 32 threads, and the same parser."""
    s3 = client(THREADS)

    def one(image_id: str) -> Record:
        body = s3.get_object(Bucket=SOURCE_BUCKET, Key=f"metadata/{metadata_key(image_id)}")["Body"].read()
        return parse_metadata(image_id, body)

    with ThreadPoolExecutor(THREADS) as pool, TableWriter.open(folder / "records", RECORDS_SCHEMA) as table:
        table.append(pool.map(one, ids(count)))


def metadata_ours(_: int, folder: Path) -> None:
    """The reading of the ingest step: listing, records, state and table."""
    reader = BucketReader(open_store(METADATA_URI), open_store(fresh_data_uri()), 0, 0)

    async def run() -> None:
        with TableWriter.open(folder / "records", RECORDS_SCHEMA) as table:
            async for outcomes in reader.read():
                table.append(outcome for outcome in outcomes if isinstance(outcome, Record))

    asyncio.run(run())


def ingest_step(_: int, folder: Path) -> None:
    """The whole step with its report."""
    options = IngestOptions(METADATA_URI, fresh_data_uri())
    ingest(options, folder / "records", folder / "rejects", folder / "report.html")


def split_step(_: int, folder: Path) -> None:
    """The whole step on the table that the parent made."""
    records = Path(os.environ["BENCH_FOLDER"]) / RECORDS_NAME
    split(records, SplitOptions(), "", folder / "splits", folder / "lists", folder / "report.html")


WORK: dict[str, Callable[[int, Path], None]] = {
    "images-loop": images_loop,
    "images-ours": images_ours,
    "fetch-boto3-threads": fetch_boto3_threads,
    "fetch-s5cmd": fetch_s5cmd,
    "fetch-ours": fetch_ours,
    "metadata-boto3-threads": metadata_boto3_threads,
    "metadata-ours": metadata_ours,
    "ingest-step": ingest_step,
    "split-step": split_step,
}


def processor_seconds() -> float:
    """Of this process and of those it waited for; imports are not part of the difference."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_mb() -> float:
    """Of this process alone: what getrusage tells begins with the memory of the parent that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Do the work named by the first argument on as many items as the second says."""
    name, count = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory(dir=os.environ["BENCH_FOLDER"]) as folder:
        started, processor = time.monotonic(), processor_seconds()
        WORK[name](count, Path(folder))
        seconds, processor = time.monotonic() - started, processor_seconds() - processor
        print(json.dumps({"seconds": seconds, "cpu_seconds": processor, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
