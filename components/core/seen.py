"""Which bins a model has seen: a file of the bundle with the ids that weights, calibration and choice rest on.

A version can be judged fairly on any bin that is not among them, also by a run that splits the bins otherwise.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.core.bundle import Bundle

SEEN_FILE = "seen.parquet"


def write_seen(folder: Path, image_ids: Sequence[str]) -> None:
    """Write the file into the folder of a bundle to be; about half a byte an id."""
    table = pa.table({"image_id": pa.array(sorted(image_ids), pa.string())})
    pq.write_table(
        table, folder / SEEN_FILE, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY", compression="zstd"
    )


def unseen(bundle: Bundle, image_ids: Sequence[str]) -> NDArray[np.bool_] | None:
    """Of each id, whether the model never saw it; None for a bundle of before there was such a file."""
    path = bundle.folder / SEEN_FILE
    if SEEN_FILE not in bundle.info.checksums:
        return None
    seen = pq.read_table(path)["image_id"].combine_chunks()
    return ~pc.is_in(pa.array(image_ids, pa.string()), value_set=seen).to_numpy(zero_copy_only=False)
