"""Decoded photos of a shard index as one flat uint8 file on local disk, so that a photo is decoded once per size."""

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from components.core.code import code_digest
from components.core.errors import UserError
from components.core.files import folder_whole
from components.core.pixels import ImageRejected, decode_squashed, decoder_versions
from components.core.shards import ShardIndex, read_images

CACHE_VARIABLE = "BIN_COUNTER_CACHE"
PIXELS_FILE = "pixels.u8"
ROWS_FILE = "rows.json"  # image ids and checksums, in the order of the rows
_BATCH = 256


def cache_folder() -> Path:
    """Where decoded photos and features are kept: BIN_COUNTER_CACHE, or ~/.cache/bin-counter."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "bin-counter")


@dataclass(frozen=True)
class PixelCache:
    """Decoded photos of one size. `rows` says in which row an image id lies, `made_by` names the code that decoded."""

    path: Path
    size: int
    rows: dict[str, int]
    checksums: NDArray[np.uint32]  # CRC-32 of each row
    made_by: str

    @cached_property
    def pixels(self) -> np.memmap:
        """All photos, uint8 N×S×S×3 RGB, mapped from disk; not checked."""
        return np.memmap(self.path, np.uint8, "r", shape=(len(self.rows), self.size, self.size, 3))

    @cached_property
    def _intact(self) -> NDArray[np.bool_]:
        """The rows whose checksum was looked at."""
        return np.zeros(len(self.checksums), np.bool_)

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copy some rows, uint8 n×S×S×3. Reads from the file instead of the map, so resident memory stays flat.

        A row's checksum is looked at when it is first read. Raises UserError, and removes the cache, when it differs.
        """
        batch = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        length = batch[0].nbytes if len(rows) else 0
        with self.path.open("rb", buffering=0) as file:
            for place, row in enumerate(rows):
                whole = os.preadv(file.fileno(), [batch[place]], int(row) * length) == length
                if not whole or not (self._intact[row] or zlib.crc32(batch[place].data) == self.checksums[row]):
                    shutil.rmtree(self.path.parent, ignore_errors=True)
                    raise UserError(
                        f"The decoded photos in {self.path.parent} were damaged on this disk and have been removed; "
                        "run again, which decodes them anew."
                    )
                self._intact[row] = True
        return batch


def decoding_digest() -> str:
    """Names the code and the libraries that turn the bytes of a photo into pixels here; twelve hex digits."""
    made_by = json.dumps([code_digest(decode_squashed), decoder_versions()])
    return hashlib.sha256(made_by.encode()).hexdigest()[:12]


def open_pixels(index: ShardIndex, size: int) -> PixelCache:
    """Open the decoded photos of `index` at `size` pixels, decoding them first where that was not done by this code.

    Several processes may call this at once: one decodes, the others wait. An interrupted decode leaves nothing.
    Raises UserError when a shard is damaged, a photo does not decode or the disk is too small.
    """
    made_by = decoding_digest()
    folder = cache_folder() / "pixels" / f"{index.digest[:16]}-{size}-{made_by}"
    with _locked(folder.with_suffix(".lock")):
        if not (folder / ROWS_FILE).is_file():
            _decode(index, size, folder)
        os.utime(folder)  # a use, for whoever clears away what is old
    ids, checksums = json.loads((folder / ROWS_FILE).read_text())
    rows = {image_id: row for row, image_id in enumerate(ids)}
    return PixelCache(folder / PIXELS_FILE, size, rows, np.array(checksums, np.uint32), made_by)


def _decode(index: ShardIndex, size: int, folder: Path) -> None:
    needed = index.images * size * size * 3
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise UserError(
            f"Decoded photos need {needed / 1e9:.1f} GB in {folder.parent}, where {free / 1e9:.1f} GB are free; "
            f"free some space or point {CACHE_VARIABLE} to a larger disk."
        )
    ids: list[str] = []
    checksums: list[int] = []
    with folder_whole(folder) as staged:
        with (staged / PIXELS_FILE).open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
            progress = tqdm(total=index.images, desc=f"decode at {size} px", unit="image", mininterval=2)
            for batch in _batched(read_images(index), _BATCH):
                for image_id, pixels in zip(
                    (image_id for image_id, _ in batch),
                    pool.map(lambda pair: _decode_one(pair[0], pair[1], size), batch),
                    strict=True,
                ):
                    ids.append(image_id)
                    checksums.append(zlib.crc32(pixels.data))
                    file.write(pixels.data)
                progress.update(len(batch))
            progress.close()
        (staged / ROWS_FILE).write_text(json.dumps([ids, checksums]))


def _decode_one(image_id: str, data: bytes, size: int) -> NDArray[np.uint8]:
    try:
        return np.ascontiguousarray(decode_squashed(data, size))
    except ImageRejected as error:
        raise UserError(f"The photo of bin {image_id} cannot be used ({error.message}); run download again.") from error


def _batched(pairs: Iterator[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    while batch := list(itertools.islice(pairs, size)):
        yield batch


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
