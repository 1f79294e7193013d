"""A small set of drawn photos that can be counted, as shards in a real store, and jobs to train on it."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from components.core.contents import BinRecord, Product
from components.core.layout import DATA_BUCKET, shard_key
from components.core.recipe import choose_recipe
from components.core.records import write_splits
from components.core.shards import Shard, ShardIndex, ShardWriter
from components.core.store import open_store
from components.train.job import Job
from components.train.loop.distributed import Processes
from pipeline.local_store import RunningStore

DATA_URI = f"s3://{DATA_BUCKET}"
TINY = "test_efficientnet"  # timm's own network for tests, 0.4 million weights
FAST = '{"batch_size": 16, "serving": "f32", "autocast": "f32"}'
ALONE = Processes(0, 1, torch.device("cpu"))


def photo(items: int, seed: int, size: int = 48) -> bytes:
    """A dark JPEG with so many bright squares on a 3×3 grid."""
    random = np.random.default_rng([items, seed])
    pixels = random.integers(0, 60, (size, size, 3), np.uint8)
    for place in random.permutation(9)[:items]:
        row, column = divmod(int(place), 3)
        cell = size // 3
        pixels[row * cell + 3 : (row + 1) * cell - 3, column * cell + 3 : (column + 1) * cell - 3] = (240, 200, 40)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@dataclass(frozen=True)
class SmallData:
    index: Path
    splits: Path


def store_bins(folder: Path, quantities: list[int]) -> SmallData:
    """Put photos of these quantities into the store; every fifth bin is validation's, every tenth the test's."""
    buffer = io.BytesIO()
    writer = ShardWriter(buffer)
    rows = []
    for number, quantity in enumerate(quantities):
        image_id = f"{number + 1:05d}"
        writer.add(image_id, photo(quantity, number))
        side = "test" if number % 10 == 9 else "validation" if number % 5 == 2 else "train"
        listed = BinRecord.of([Product(1, (5.0, 10.0, 15.0), 0.3)] * quantity).encoded()
        rows.append((image_id, quantity, str(number), side if 1 <= quantity <= 5 else "extra", side, listed))
    digest = writer.close()
    open_store(DATA_URI).put(shard_key(digest), buffer.getvalue())
    shard = Shard(key=shard_key(digest), sha256=digest, images=writer.images, bytes=len(buffer.getvalue()))
    data = SmallData(folder / "index.json", folder / "splits.parquet")
    ShardIndex.of(DATA_URI, [shard]).write(data.index)
    columns = ["image_id", "quantity", "contents", "subset", "block_subset", "product_list"]
    write_splits(data.splits, pd.DataFrame(rows, columns=columns))
    return data


@pytest.fixture
def small_data(store_environment: RunningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallData:
    monkeypatch.setenv("BIN_COUNTER_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    return store_bins(tmp_path, [number % 8 for number in range(96)])


@pytest.fixture
def job_of(small_data: SmallData) -> Callable[..., Job]:
    """Makes a job on the small data: recipe, epochs, overrides and any other field."""

    def make(recipe: str = "finetune", epochs: int = 2, overrides: str = FAST, **fields: Any) -> Job:
        chosen = choose_recipe(recipe, epochs, 48, TINY, overrides)
        return Job(small_data.index, small_data.splits, chosen, 5, weights="random", **fields)

    return make
