"""Bins to measure training on: stored as shards, with a split that needs no other step."""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image
from pydantic import BaseModel

from benchmarks.data import made_jpeg
from components.core.layout import DATA_BUCKET, shard_key
from components.core.records import block_of, read_splits, write_splits
from components.core.shards import Shard, ShardIndex, ShardWriter, read_images
from components.core.store import open_store
from drawn.bins import draw_bins


class Row(BaseModel):
    """One goal: what was measured, the result in words, the goal, and whether it was met (None: not measured)."""

    what: str
    result: str
    goal: str
    met: bool | None


_COLUMNS = ["image_id", "quantity", "contents", "subset", "block_subset"]


@dataclass(frozen=True)
class Bins:
    """Paths of a shard index and of the splits that belong to it."""

    index: Path
    splits: Path

    def ids(self, subset: str) -> list[str]:
        """Ids of a subset."""
        table = read_splits(self.splits)
        return table.loc[table["subset"] == subset, "image_id"].tolist()

    def photos(self, subset: str) -> list[tuple[bytes, int]]:
        """JPEG bytes and quantity of every bin of a subset, in the order of `ids`."""
        table = read_splits(self.splits)
        chosen = table[table["subset"] == subset]
        data = dict(read_images(ShardIndex.read(self.index)))
        pairs = zip(chosen["image_id"].tolist(), chosen["quantity"].tolist(), strict=True)
        return [(data[image_id], quantity) for image_id, quantity in pairs]


def store_bins(bins: Iterable[tuple[str, bytes, int, str]], folder: Path) -> Bins:
    """Put (id, JPEG, quantity, side of the split) into the store as one shard."""
    uri, buffer, rows = f"s3://{DATA_BUCKET}", io.BytesIO(), []
    writer = ShardWriter(buffer)
    for image_id, jpeg, quantity, side in bins:
        writer.add(image_id, jpeg)
        rows.append((image_id, quantity, "", side if 1 <= quantity <= 5 else "extra", side))
    digest = writer.close()
    open_store(uri).put(shard_key(digest), buffer.getvalue())
    shard = Shard(key=shard_key(digest), sha256=digest, images=writer.images, bytes=writer.bytes)
    result = Bins(folder / "index.json", folder / "splits.parquet")
    ShardIndex.of(uri, [shard]).write(result.index)
    write_splits(result.splits, pd.DataFrame(rows, columns=_COLUMNS))
    return result


def drawn_bins(number: int, folder: Path) -> Bins:
    """Draw bins and split them by blocks of ids: a fifth is for testing, a tenth for validation."""

    def usable() -> Iterable[tuple[str, bytes, int, str]]:
        for one in draw_bins(number, 0):
            try:
                quantity = int(json.loads(one.metadata)["EXPECTED_QUANTITY"])
                Image.open(io.BytesIO(one.jpeg or b"")).load()
            except (ValueError, OSError):
                continue  # the broken ones are drawn on purpose
            place = hashlib.sha256(str(block_of(one.image_id)).encode()).digest()[0] / 256
            side = "test" if place < 0.2 else "validation" if place < 0.3 else "train"
            yield one.image_id, one.jpeg or b"", quantity, side

    return store_bins(usable(), folder)


def made_bins(numbers: tuple[int, int, int], folder: Path) -> Bins:
    """Photos of the originals' size, so many for training, validation and testing."""
    made = [made_jpeg(number) for number in range(200)]
    subsets = zip(("train", "validation", "test"), numbers, strict=True)
    sides = [name for name, number in subsets for _ in range(number)]
    return store_bins(
        ((f"{place:05d}", made[place % len(made)], place % 5 + 1, side) for place, side in enumerate(sides)), folder
    )
