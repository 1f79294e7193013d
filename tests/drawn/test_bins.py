"""The drawn bins: the dataset's layout with all its traps, known counts, and a difficulty that asks for counting."""

import io
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from components.core.layout import IMAGE_ID
from drawn.bins import (
    FAULTS_EVERY,
    INVALID_JSON,
    MISSING_IMAGE,
    QUANTITY_WEIGHTS,
    TRUNCATED_JPEG,
    GeneratedBin,
    draw_bin,
    draw_bins,
    image_id_of,
    scene_of,
)

FAULTS = {INVALID_JSON, MISSING_IMAGE, TRUNCATED_JPEG}


@pytest.fixture(scope="module")
def bins() -> list[GeneratedBin]:
    return list(draw_bins(30, seed=3))


def whole_numbers(count: int) -> list[int]:
    return [number for number in range(count) if number % FAULTS_EVERY not in FAULTS]


def test_the_same_seed_gives_the_same_bytes_in_another_process(bins: list[GeneratedBin]) -> None:
    program = (
        "import hashlib; from drawn.bins import draw_bins; digest = hashlib.sha256();"
        "[digest.update(b.metadata + (b.jpeg or b'')) for b in draw_bins(6, seed=3)]; print(digest.hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_another_seed_gives_other_bins(bins: list[GeneratedBin]) -> None:
    assert all(first.jpeg != second.jpeg for first, second in zip(bins[:5], draw_bins(5, seed=4), strict=True))


def test_a_longer_series_begins_with_the_shorter_one(bins: list[GeneratedBin]) -> None:
    assert list(draw_bins(4, seed=3)) == bins[:4]


def test_every_photo_has_a_size_that_the_originals_have(bins: list[GeneratedBin]) -> None:
    sizes = [Image.open(io.BytesIO(each.jpeg)).size for each in bins if each.jpeg]
    assert all(315 <= width <= 785 and 240 <= height <= 1069 for width, height in sizes)
    assert len(set(sizes)) > len(sizes) / 2


def test_ids_are_unique_strings_of_which_some_collide_as_integers() -> None:
    ids = [image_id_of(number) for number in range(1000)]
    assert len(set(ids)) == 1000
    assert all(IMAGE_ID.fullmatch(image_id) for image_id in ids)
    collisions = [value for value, times in Counter(map(int, ids)).items() if times > 1]
    assert len(collisions) == 40


def test_bins_whose_ids_collide_as_integers_mostly_hold_other_counts() -> None:
    numbers = {image_id_of(number): number for number in range(1000)}
    pairs = [(numbers[name], numbers[f"{int(name):05d}"]) for name in numbers if not name.startswith("0")]
    different = [len(scene_of(first).items) != len(scene_of(second).items) for first, second in pairs]
    assert np.mean(different) > 0.6


def test_metadata_have_the_schema_of_the_dataset(bins: list[GeneratedBin]) -> None:
    for number in whole_numbers(len(bins)):
        document = json.loads(bins[number].metadata)
        products = document["BIN_FCSKU_DATA"]
        unpadded = not bins[number].image_id.startswith("0")
        assert document["EXPECTED_QUANTITY"] == sum(product["quantity"] for product in products.values())
        assert ("image_fname" in document) == unpadded
        for asin, product in products.items():
            assert product["asin"] == asin
            assert ("normalizedName" in product) == (not unpadded)
            assert all(product[side]["unit"] == "IN" for side in ("height", "length", "width"))
            assert product["weight"]["unit"] == "pounds"


def test_counts_spread_like_the_real_ones() -> None:
    counts = np.bincount([len(scene_of(number).items) for number in range(1000)], minlength=10)
    expected = QUANTITY_WEIGHTS / QUANTITY_WEIGHTS.sum() * 1000
    assert len(counts) == 10
    assert (counts > 0).all()
    assert np.abs(counts - expected).max() < 40  # three standard deviations of the largest class
    assert 0.62 < counts[1:6].sum() / 1000 < 0.70


def test_some_bins_hold_several_of_one_product() -> None:
    repeated = [
        max(Counter(item.product.asin for item in scene.items).values(), default=0) > 1
        for scene in map(scene_of, range(200))
    ]
    assert 0.3 < np.mean(repeated) < 0.9


def test_neighbours_sometimes_show_the_same_contents_in_another_photo() -> None:
    pairs = [number for number in range(1, 200) if scene_of(number) == scene_of(number - 1) and scene_of(number).items]
    assert 5 <= len(pairs) <= 40
    first, second = draw_bin(pairs[0] - 1), draw_bin(pairs[0])
    assert json.loads(first.metadata) == json.loads(second.metadata)
    assert first.jpeg != second.jpeg
    assert first.image_id != second.image_id


def test_some_bins_are_broken_in_each_of_the_three_ways() -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(draw_bin(INVALID_JSON).metadata)
    assert draw_bin(MISSING_IMAGE).jpeg is None
    truncated = draw_bin(TRUNCATED_JPEG).jpeg
    assert truncated is not None
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(truncated)).load()


def test_a_linear_model_on_thumbnails_stays_within_ten_points_of_the_baseline() -> None:
    """Cross-validated on bins with 1 to 5 items, regularised as suits it best."""
    numbers = [number for number in whole_numbers(640) if 1 <= len(scene_of(number).items) <= 5]
    labels = np.array([len(scene_of(number).items) for number in numbers])
    thumbnails = np.stack([_thumbnail(draw_bin(number)) for number in numbers])
    baseline = np.bincount(labels).max() / len(labels)
    accuracies = [
        np.mean(labels == cross_val_predict(_linear(regularisation), thumbnails, labels, cv=5))
        for regularisation in (1e-4, 1e-3, 1e-2)
    ]
    assert max(accuracies) < baseline + 0.10


def _linear(regularisation: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=regularisation, max_iter=300))


def _thumbnail(drawn: GeneratedBin) -> np.ndarray:
    assert drawn.jpeg is not None
    image = Image.open(io.BytesIO(drawn.jpeg))
    image.draft("RGB", (64, 64))
    return np.asarray(image.resize((16, 16), Image.Resampling.BOX), dtype=np.float32).ravel() / 255
