"""What the model sees in each photo: in parts that are kept, so that an audit goes on where it was interrupted."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from components.audit.photos import PhotoFile, Photos
from components.core.bundle import Bundle, bundle_version
from components.core.files import written_whole
from components.core.image_file import ImageRejected, read_image_file
from components.core.pixels import squash
from components.core.runtime import Runtime, open_runtime

SEEN_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("classes", pa.list_(pa.float32())),  # probabilities of 0, 1…K, more; empty for a photo that cannot be read
        ("brightness", pa.float32()),  # mean of the pixels, 0 to 1
        ("sharpness", pa.float32()),  # standard deviation of the Laplacian, in units of 255
        ("problem", pa.string()),  # why it cannot be read, as a clause
    ]
)
PART = 1_000  # photos in a part: a minute of work or less is lost by a kill
_BATCH = 32

Array = NDArray[np.uint8]


@dataclass(frozen=True)
class _Read:
    """One photo at the model's size and how it looks, or why there is none."""

    pixels: Array | None
    problem: str = ""
    brightness: float | None = None
    sharpness: float | None = None


def score(bundle: Bundle, photos: Photos, files: Sequence[PhotoFile], kept: Path) -> pa.Table:
    """Ask the model about all photos, in order; what `kept` holds of an earlier attempt is not asked again.

    Parts are kept under a digest of model and photos, so what belongs to others is never taken. Raises UserError.
    """
    folder = kept / _digest(bundle, files)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [files[start : start + PART] for start in range(0, len(files), PART)]
    paths = [folder / f"{number:06d}.parquet" for number in range(len(parts))]
    done = sum(len(part) for part, path in zip(parts, paths, strict=True) if path.is_file())
    missing = [(part, path) for part, path in zip(parts, paths, strict=True) if not path.is_file()]
    if missing:
        runtime = open_runtime(bundle)
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            tqdm(total=len(files), initial=done, desc="audit", unit="photo", mininterval=2) as bar,
        ):
            for part, path in missing:
                table = _score_part(runtime, photos, part, pool, bar)
                with written_whole(path) as partial:
                    pq.write_table(table, partial, compression="zstd")
    for other in kept.iterdir():  # of other models or photos; this one serves another list from the same photos
        if other != folder:
            shutil.rmtree(other)
    return pa.concat_tables([pq.read_table(path, schema=SEEN_SCHEMA) for path in paths])


def _digest(bundle: Bundle, files: Sequence[PhotoFile]) -> str:
    digest = hashlib.sha256(f"{bundle_version(bundle.folder)} {PART}\n".encode())
    for file in files:
        digest.update(f"{file.name} {file.version}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _score_part(
    runtime: Runtime, photos: Photos, part: Sequence[PhotoFile], pool: ThreadPoolExecutor, bar: "tqdm[Any]"
) -> pa.Table:
    columns: dict[str, list[object]] = {name: [] for name in SEEN_SCHEMA.names}
    for names, batch in _batches(photos, [file.name for file in part], runtime.bundle.info.image_size, pool):
        good = [place for place, one in enumerate(batch) if one.pixels is not None]
        pixels = [one.pixels for one in batch if one.pixels is not None]
        found = runtime.predict(np.stack(pixels)).classes if pixels else None
        said = dict(zip(good, found if found is not None else [], strict=True))
        for place, (name, one) in enumerate(zip(names, batch, strict=True)):
            columns["file"].append(name)
            columns["classes"].append(said[place].astype(np.float32) if place in said else [])
            columns["brightness"].append(one.brightness)
            columns["sharpness"].append(one.sharpness)
            columns["problem"].append(one.problem)
        bar.update(len(names))
    return pa.table(columns, SEEN_SCHEMA)


def _batches(
    photos: Photos, names: Sequence[str], size: int, pool: ThreadPoolExecutor
) -> Iterator[tuple[Sequence[str], list[_Read]]]:
    """Photos in batches; the next one is read and decoded while the caller looks at this one."""

    def begin(start: int) -> tuple[Sequence[str], list[Future[_Read]]]:
        batch = names[start : start + _BATCH]
        return batch, [pool.submit(_read, photos, name, size) for name in batch]

    pending = begin(0)
    for start in range(_BATCH, len(names) + _BATCH, _BATCH):
        following = begin(start)
        batch, reading = pending
        yield batch, [one.result() for one in reading]
        pending = following


def _read(photos: Photos, name: str, size: int) -> _Read:
    try:
        pixels = squash(read_image_file(photos.read(name)), size)
    except ImageRejected as error:
        return _Read(None, error.message.rstrip("."))
    except OSError as error:
        return _Read(None, f"it cannot be read ({error.strerror or error})"[:200])
    return _Read(pixels, "", *look_of(pixels))


def look_of(pixels: Array) -> tuple[float, float]:
    """Brightness (0 to 1) and sharpness of a photo S×S×3.

    Sharpness is the standard deviation of the Laplacian of the grey photo (Pech-Pacheco et al. 2000) in units of 255.
    """
    grey = pixels[..., 0].astype(np.int16) + pixels[..., 1] + pixels[..., 2]  # three times as bright, and exact
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(grey.mean()) / (3 * 255), float(laplacian.std()) / (3 * 255)
