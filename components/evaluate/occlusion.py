"""What the model looks at: cover the photo place by place, and see how much less it believes in what it said.

A square patch of the photo's mean colour goes over the pixels that the model gets. Nothing of the network is needed
but its answers, so the map is of the graph that will serve, in its precision.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.core.pixels import decode_squashed, read_image_file, thumbnail
from components.core.runtime import Runtime
from components.evaluate.examples import Example

CELLS = 8  # places by side
PATCH = 2  # side of the patch in cells: a quarter of the photo's, about as large as an item
FULL = 0.05  # a fall in probability that is shown in full even where nothing weighs more
SHOWN_SIDE = 400  # pixels, the longer one
_DIM = 0.3
_AGAINST = (59, 130, 196)  # the colour of what speaks against the answer

Map = NDArray[np.float64]


@dataclass(frozen=True)
class LookedAt:
    """An example and its map: by how much the probability of the answer falls when a cell is covered, CELLS×CELLS.

    Below 0 the answer becomes more probable: what is there speaks against it.
    """

    example: Example
    falls: Map

    @property
    def words(self) -> str:
        """How much the place that matters most takes away, in points of probability."""
        return f"{max(0.0, 100 * float(self.falls.max())):.0f} points less where it matters most"

    def picture(self) -> bytes:
        """The photo as a JPEG, lit where it speaks for the answer, blue where against it, dim and grey elsewhere."""
        shown = thumbnail(read_image_file(self.example.jpeg), SHOWN_SIDE)
        weights = _smooth(self.falls / max(FULL, float(np.abs(self.falls).max())), shown.size)
        data = io.BytesIO()
        Image.fromarray(_lit(np.asarray(shown, np.float32), weights)).save(data, "JPEG", quality=80)
        return data.getvalue()


def look_at(runtime: Runtime, examples: Sequence[Example]) -> list[LookedAt]:
    """Maps of examples, in their order; asks the model (CELLS - PATCH + 1)² + 1 times about each."""
    size = runtime.bundle.info.image_size
    return [LookedAt(one, occlusion(runtime, decode_squashed(one.jpeg, size), one.count)) for one in examples]


def occlusion(runtime: Runtime, pixels: NDArray[np.uint8], count: int) -> Map:
    """How far the probability of `count` falls with each cell of one photo (uint8 S×S×3) covered: CELLS×CELLS.

    A cell's value is the mean over the patches that lie on it.
    """
    edges = np.linspace(0, len(pixels), CELLS + 1).round().astype(int)
    corners = [(row, column) for row in range(CELLS - PATCH + 1) for column in range(CELLS - PATCH + 1)]
    covered = np.repeat(pixels[None], len(corners) + 1, axis=0)
    colour = pixels.mean(axis=(0, 1)).round().astype(np.uint8)
    for photo, (row, column) in zip(covered[1:], corners, strict=True):
        photo[edges[row] : edges[row + PATCH], edges[column] : edges[column + PATCH]] = colour
    probability = runtime.predict(covered).scores[:, count - 1].astype(np.float64)
    total, times = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    for fall, (row, column) in zip(probability[0] - probability[1:], corners, strict=True):
        total[row : row + PATCH, column : column + PATCH] += fall
        times[row : row + PATCH, column : column + PATCH] += 1
    return total / times


def _smooth(weights: Map, size: tuple[int, int]) -> NDArray[np.float32]:
    """The map at the size of the picture (width, height), without steps between cells."""
    return np.asarray(Image.fromarray(weights.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))


def _lit(photo: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Photo H×W×3 (0 to 255) by weights H×W: from dim grey at 0 to the photo itself at 1 and to blue at -1."""
    speaks_for, against = np.clip(weights, 0, 1)[..., None], np.clip(-weights, 0, 1)[..., None]
    grey = photo.mean(axis=2, keepdims=True)
    dim = _DIM * grey * (1 - speaks_for - against)
    blue = (0.4 * grey + 0.6 * np.array(_AGAINST, np.float32)) * against
    return np.clip(dim + photo * speaks_for + blue, 0, 255).round().astype(np.uint8)
