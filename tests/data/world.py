"""A small made source in the real store, and the steps run on it."""

import io
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from PIL import Image

from components.core.layout import DATA_BUCKET, SOURCE_BUCKET, image_key, metadata_key
from components.core.shards import ShardIndex
from components.core.store import open_store
from components.download.download import DownloadOptions, download
from components.ingest_metadata.ingest import IngestOptions, Tally, ingest
from components.split.divide import SplitOptions
from components.split.split import split


def made_metadata(number: int, quantity: int | None = None) -> bytes:
    """Metadata of a made bin with contents of its own."""
    quantity = number % 8 if quantity is None else quantity
    contents = {f"B{number:06d}": {"asin": f"B{number:06d}", "name": "box", "quantity": quantity}} if quantity else {}
    return json.dumps({"BIN_FCSKU_DATA": contents, "EXPECTED_QUANTITY": quantity}).encode()


def made_jpeg(number: int) -> bytes:
    """A small photo with noise of its own, so that no two look alike."""
    noise = np.random.default_rng(number).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((64, 48)).save(file, "JPEG", quality=80)
    return file.getvalue()


@dataclass
class World:
    """One source of its own in the store, our bucket beside it, and a folder for what the steps write."""

    folder: Path
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def source(self) -> str:
        return f"s3://{SOURCE_BUCKET}/{self.name}"

    @property
    def data_uri(self) -> str:
        return f"s3://{DATA_BUCKET}/{self.name}"

    def put(self, key: str, data: bytes) -> None:
        open_store(self.source).put(key, data)

    def put_odd(self, key: str, data: bytes) -> None:
        """Put under a key that the store's usual client refuses to write."""
        boto3.Session().client("s3").put_object(Bucket=SOURCE_BUCKET, Key=f"{self.name}/{key}", Body=data)

    def fill(self, count: int, start: int = 1, photos: bool = True) -> None:
        store = open_store(self.source)

        def put(number: int) -> None:
            store.put(metadata_key(f"{number:05d}"), made_metadata(number))
            if photos:
                store.put(image_key(f"{number:05d}"), made_jpeg(number))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, range(start, start + count)))

    def path(self, name: str) -> Path:
        return self.folder / name

    def ingest(self, **options: Any) -> Tally:
        chosen = IngestOptions(
            **{"source": self.source, "data_uri": self.data_uri, "recounts": self.data_uri, **options}
        )
        return ingest(chosen, self.path("records"), self.path("rejects"), self.path("ingest.html"))

    def split(self, file_lists: str = "", **options: Any) -> None:
        chosen = SplitOptions(**options)
        outputs = (self.path("splits"), self.path("lists"), self.path("split.html"))
        split(self.path("records"), chosen, file_lists, *outputs)

    def download(self, **options: Any) -> ShardIndex:
        chosen = DownloadOptions(**{"source": self.source, "data_uri": self.data_uri, **options})
        outputs = (self.path("index"), self.path("photo-rejects"), self.path("download.html"))
        return download(chosen, self.path("splits"), *outputs)

    def results(self) -> dict[str, bytes]:
        """Bytes of every table the steps wrote."""
        names = ("records", "rejects", "splits", "index", "photo-rejects")
        return {name: self.path(name).read_bytes() for name in names if self.path(name).exists()}
