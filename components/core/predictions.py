"""What a model says about bins: photos from the shards through pixels and runtime, and the table that keeps it."""

import os
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from components.core.bundle import Bundle
from components.core.errors import UserError
from components.core.files import written_whole
from components.core.pixels import decode_squashed
from components.core.runtime import Prediction, Runtime, open_runtime
from components.core.shards import ShardIndex, read_images

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("quantity", pa.int32()),
        ("subset", pa.string()),  # test, or extra: a held-out bin with 0 or more than max_count items
        ("count", pa.int32()),
        ("expected_count", pa.float64()),
        ("scores", pa.list_(pa.float32())),
        ("out_of_range", pa.float32()),  # null for a model that knows nothing of it
        ("empty", pa.float32()),  # its two parts, null where the model does not tell them apart
        ("more", pa.float32()),
    ]
)
BATCH_SIZE = 32


@dataclass(frozen=True)
class PredictedBatch:
    """Some bins with their photos as stored, and what the model says about each, in the same order."""

    image_ids: list[str]
    jpegs: list[bytes]
    prediction: Prediction


def predict_bins(bundle: Bundle, index: ShardIndex, wanted: Set[str]) -> Iterator[PredictedBatch]:
    """Ask the model about the wanted bins that have a photo, in the shards' order.

    Runtime and precision are the bundle's own, as in serving. Memory holds one shard and one batch.
    """
    runtime = open_runtime(bundle)
    found = 0
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(wanted), desc="predict", unit="bin", mininterval=5) as bar,
    ):
        photos = (photo for photo in read_images(index) if photo[0] in wanted)
        while found < len(wanted) and (batch := list(islice(photos, min(BATCH_SIZE, len(wanted) - found)))):
            yield _predict_batch(runtime, batch, bundle.info.image_size, pool)
            found += len(batch)
            bar.update(len(batch))


def held_out_bins(splits: pd.DataFrame) -> pd.DataFrame:
    """The rows that no training saw: the test subset, and the extra bins on the test side of the split."""
    return splits[(splits["subset"] == "test") | ((splits["subset"] == "extra") & (splits["block_subset"] == "test"))]


def stack_scores(predictions: pd.DataFrame) -> np.ndarray:
    """The scores column as float64 N×K."""
    return np.array(predictions["scores"].tolist(), dtype=np.float64)


def write_predictions(path: str | Path, predictions: pd.DataFrame) -> None:
    """Write the table; columns as in PREDICTIONS_SCHEMA."""
    table = pa.Table.from_pandas(predictions, PREDICTIONS_SCHEMA, preserve_index=False)
    with written_whole(path) as partial:
        pq.write_table(table.replace_schema_metadata(None), partial, compression="zstd")


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read the table back. Raises UserError when the file is not one."""
    try:
        return pq.read_table(path, schema=PREDICTIONS_SCHEMA).to_pandas()
    except (FileNotFoundError, pa.ArrowException) as error:
        raise UserError(f"There are no predictions at {path} that can be read; run evaluate again.") from error


def _predict_batch(
    runtime: Runtime, photos: list[tuple[str, bytes]], size: int, pool: ThreadPoolExecutor
) -> PredictedBatch:
    image_ids, jpegs = [image_id for image_id, _ in photos], [jpeg for _, jpeg in photos]
    pixels = np.stack(list(pool.map(lambda jpeg: decode_squashed(jpeg, size), jpegs)))
    return PredictedBatch(image_ids, jpegs, runtime.predict(pixels))
