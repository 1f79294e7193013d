"""What the model looks at: maps of a network that is known to look at brightness, and nothing else."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core.runtime import Runtime, open_runtime
from components.evaluate.examples import Example
from components.evaluate.occlusion import CELLS, LookedAt, look_at, occlusion
from tests.small_model import IMAGE_SIZE, STEP, write_small_bundle


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return open_runtime(write_small_bundle(tmp_path / "bundle"))


def photo_with_a_patch(level: int, rows: slice, columns: slice, mean: float) -> np.ndarray:
    """An even photo with a patch of `level`; its mean brightness is `mean`."""
    patch = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
    patch[rows, columns] = True
    rest = (mean - level * patch.mean()) / (1 - patch.mean())
    return np.repeat(np.where(patch, level, rest).round().astype(np.uint8)[..., None], 3, axis=2)


def example(pixels: np.ndarray, count: int) -> Example:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=100, subsampling=0)
    return Example(0.9, "00001", count, count, data.getvalue())


def test_the_map_points_at_the_one_thing_that_speaks_for_the_answer(runtime: Runtime) -> None:
    falls = occlusion(runtime, photo_with_a_patch(255, slice(8, 16), slice(20, 28), 3 * STEP), count=3)
    assert falls.shape == (CELLS, CELLS)
    place = np.unravel_index(falls.argmax(), falls.shape)
    assert place[0] in (2, 3)
    assert place[1] in (5, 6)
    assert falls.max() > 0.01
    assert abs(falls[6:, :3]).max() < falls.max() / 5


def test_what_speaks_against_the_answer_is_below_zero(runtime: Runtime) -> None:
    falls = occlusion(runtime, photo_with_a_patch(255, slice(8, 16), slice(20, 28), 3 * STEP), count=2)
    assert falls[2:4, 5:7].max() < 0


def test_a_photo_without_any_place_that_matters_is_dim_all_over(runtime: Runtime) -> None:
    even = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), 90, np.uint8)
    [looked_at] = look_at(runtime, [example(even, 3)])
    assert abs(looked_at.falls).max() < 1e-6
    assert np.asarray(Image.open(io.BytesIO(looked_at.picture()))).max() < 40


def test_the_picture_keeps_the_photos_shape_and_is_lit_where_it_matters() -> None:
    falls = np.zeros((CELLS, CELLS))
    falls[0, 0], falls[-1, -1] = 0.3, -0.3
    shown = LookedAt(example(np.full((30, 60, 3), (200, 120, 40), np.uint8), 3), falls)
    picture = np.asarray(Image.open(io.BytesIO(shown.picture()))).astype(int)
    assert picture.shape == (200, 400, 3)
    assert abs(picture[3, 3] - (200, 120, 40)).max() < 12
    assert np.ptp(picture[100, 200]) < 4
    assert picture[100, 200].max() < 50
    assert picture[-3, -3, 2] > picture[-3, -3, 0] + 40
    assert shown.words == "30 points less where it matters most"


def test_a_photo_taken_on_its_side_is_shown_upright() -> None:
    data = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 30)).save(data, "JPEG", exif=exif)
    shown = LookedAt(Example(0.9, "00001", 3, 3, data.getvalue()), np.zeros((CELLS, CELLS)))
    assert Image.open(io.BytesIO(shown.picture())).size == (200, 400)
