"""Drawn bins in the layout of the public dataset, with the traps of the real one and known counts.

Bin number i depends on the seed and on i alone, so a longer series starts with the shorter one.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drawn.drawing import paint
from drawn.photo import take_photo
from drawn.scene import Scene, draw_scene

DEFAULT_COUNT = 1000

# Bins per quantity in the real sample of 10,000; those with 6 or more spread over 6 to 9 as they are there.
QUANTITY_WEIGHTS = np.array([179, 768, 1440, 1725, 1519, 1168, 1175, 922, 640, 464], dtype=float)
REPEATED_SHARE = 0.09  # neighbours with exactly the same contents
UNPADDED_EVERY = 25  # one in so many ids is unpadded
FAULTS_EVERY = 500
INVALID_JSON, MISSING_IMAGE, TRUNCATED_JPEG = 20, 50, 80  # places within FAULTS_EVERY

# Streams of random numbers of one bin.
_CONTENTS, _VIEW, _REPEATED = 0, 1, 2


@dataclass(frozen=True)
class GeneratedBin:
    """One bin of the source: its id, its metadata file, and its photo (None: the photo is missing)."""

    image_id: str
    metadata: bytes
    jpeg: bytes | None


def draw_bins(count: int = DEFAULT_COUNT, seed: int = 0) -> Iterator[GeneratedBin]:
    """Draw `count` bins; the same seed gives the same bytes in every process."""
    return (draw_bin(number, seed) for number in range(count))


def draw_bin(number: int, seed: int = 0) -> GeneratedBin:
    """Draw bin `number` (from 0) of the series that `seed` names."""
    image_id = image_id_of(number)
    scene = scene_of(number, seed)
    fault = number % FAULTS_EVERY
    metadata = _metadata(scene, image_id, unpadded=_is_unpadded(number))
    if fault == INVALID_JSON:
        metadata = metadata[: len(metadata) // 2]
    jpeg: bytes | None = take_photo(paint(scene), np.random.default_rng([seed, number, _VIEW]))
    if fault == MISSING_IMAGE:
        jpeg = None
    elif fault == TRUNCATED_JPEG and jpeg is not None:
        jpeg = jpeg[: len(jpeg) // 3]
    return GeneratedBin(image_id, metadata, jpeg)


def generator_digest() -> str:
    """Changes whenever the code that draws does, so that a store with older bins is filled again."""
    digest = hashlib.sha256()
    for module in ("bins", "products", "scene", "drawing", "photo"):
        digest.update((Path(__file__).parent / f"{module}.py").read_bytes())
    return digest.hexdigest()


def image_id_of(number: int) -> str:
    """Ids as in the dataset: mostly padded to five digits, some unpadded that equal a padded one as integers."""
    if _is_unpadded(number):
        return str(number // UNPADDED_EVERY + 1)
    return f"{number - number // UNPADDED_EVERY + 1:05d}"


def _is_unpadded(number: int) -> bool:
    return number % UNPADDED_EVERY == UNPADDED_EVERY - 1


def _is_repeated(number: int, seed: int) -> bool:
    """Whether the photo shows the bin before once more. Never twice in a row, and never across the kinds of id."""

    def drawn(candidate: int) -> bool:
        return bool(np.random.default_rng([seed, candidate, _REPEATED]).random() < REPEATED_SHARE)

    if number == 0 or _is_unpadded(number) or _is_unpadded(number - 1):
        return False
    return drawn(number) and not drawn(number - 1)


def scene_of(number: int, seed: int = 0) -> Scene:
    """What lies in bin `number`; a repeated photo shows the contents of the bin before."""
    number = number - 1 if _is_repeated(number, seed) else number
    rng = np.random.default_rng([seed, number, _CONTENTS])
    count = int(rng.choice(len(QUANTITY_WEIGHTS), p=QUANTITY_WEIGHTS / QUANTITY_WEIGHTS.sum()))
    return draw_scene(rng, count)


def _metadata(scene: Scene, image_id: str, *, unpadded: bool) -> bytes:
    """The metadata file in the dataset's schema; files of unpadded ids have no normalizedName, but image_fname."""
    quantities = Counter(item.product.asin for item in scene.items)
    products = {item.product.asin: item.product for item in scene.items}
    document: dict[str, Any] = {
        "BIN_FCSKU_DATA": {
            asin: product.metadata(quantities[asin], normalized_name=not unpadded)
            for asin, product in sorted(products.items())
        },
        "EXPECTED_QUANTITY": len(scene.items),
    }
    if unpadded:
        document["image_fname"] = f"{image_id}.jpg"
    return json.dumps(document, indent=4).encode()
