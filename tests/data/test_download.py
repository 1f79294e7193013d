import io
import random
import time
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.core.errors import UserError
from components.core.layout import image_key
from components.core.records import Reject, read_rejects, write_splits
from components.core.shards import read_images
from components.core.store import Store, open_store
from components.download import download
from components.download.fetch import check
from components.download.near import (
    HASH_BITS,
    NEAR_BITS,
    SAME_BITS,
    near_groups,
    near_limit,
    perceptual_hash,
)
from tests.data.world import World, made_jpeg

SMALL = 30_000  # bytes a shard


@pytest.fixture
def split_world(world: World) -> World:
    """Where every bin is part of the split, so that numbers are round."""
    world.fill(220)
    ids = [f"{number:05d}" for number in range(1, 221)]
    sides = ["train" if number <= 150 else "test" for number in range(1, 221)]
    columns = {
        "image_id": ids,
        "quantity": 3,
        "contents": "",
        "subset": sides,
        "block_subset": sides,
        "product_list": "",
    }
    write_splits(world.path("splits"), pd.DataFrame(columns))
    return world


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (40, 30), 100 if mode == "L" else None).save(file, options.pop("format", "JPEG"), **options)
    return file.getvalue()


def test_every_photo_is_packed_untouched(split_world: World) -> None:
    index = split_world.download(shard_bytes=SMALL)
    assert len(index.shards) > 5
    assert dict(read_images(index)) == {f"{number:05d}": made_jpeg(number) for number in range(1, 221)}
    assert read_rejects(split_world.path("photo-rejects")) == []


def test_the_same_input_gives_the_same_bytes_in_whatever_order_it_arrives(
    split_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = split_world.download(shard_bytes=SMALL)
    first = split_world.results()
    original = Store.fetch

    def shuffled(self: Store, key: str) -> bytes:
        time.sleep(random.Random(key).random() / 20)
        return original(self, key)

    monkeypatch.setattr(Store, "fetch", shuffled)
    for shard in index.shards:
        open_store(split_world.data_uri).delete(shard.key)
    split_world.download(shard_bytes=SMALL)
    assert split_world.results() == first


def test_an_interrupted_download_goes_on_where_it_was(split_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = split_world.download(shard_bytes=SMALL)
    asked: list[str] = []
    original = Store.fetch

    def failing(self: Store, key: str) -> bytes:
        asked.append(key)
        if len(asked) == 180:
            raise UserError("pulled the plug")
        return original(self, key)

    monkeypatch.setattr(Store, "fetch", failing)
    monkeypatch.setattr("components.download.fetch.BATCH", 8)
    monkeypatch.setattr("components.download.fetch.BATCHES_UNDER_WAY", 2)
    split_world.path("index").unlink()
    with pytest.raises(UserError, match="pulled the plug"):
        split_world.download(shard_bytes=SMALL)
    assert not split_world.path("index").exists()
    before = len(asked)
    assert split_world.download(shard_bytes=SMALL) == quiet
    assert len(asked) - before < 120


def test_a_finished_download_leaves_no_state(split_world: World) -> None:
    split_world.download(shard_bytes=SMALL)
    assert [entry.key for entry in open_store(split_world.data_uri).list("state/download/")] == []


def test_bad_photos_cost_a_row_each(split_world: World) -> None:
    bad = {
        "00010": (None, "missing"),
        "00011": (b"", "empty"),
        "00012": (b"<html>404</html>", "not_an_image"),
        "00013": (made_jpeg(13)[:300], "corrupt"),
    }
    for image_id, (data, _) in bad.items():
        if data is None:
            open_store(split_world.source).delete(image_key(image_id))
        else:
            split_world.put(image_key(image_id), data)
    index = split_world.download(max_reject_share=0.02)
    assert index.images == 216
    rejects = read_rejects(split_world.path("photo-rejects"))
    assert [(reject.key, reject.reason) for reject in rejects] == [
        (image_key(image_id), reason) for image_id, (_, reason) in bad.items()
    ]


def test_too_many_bad_photos_fail_with_a_summary_by_reason(split_world: World) -> None:
    for number in range(50, 55):
        split_world.put(image_key(f"{number:05d}"), b"<html>")
    split_world.put(image_key("00060"), b"")
    with pytest.raises(UserError, match=r"\d of the first \d+ photos are unusable \(\d not_an_image"):
        split_world.download()
    assert not split_world.path("index").exists()
    assert len(read_rejects(split_world.path("photo-rejects"))) >= 3
    for number in (*range(50, 55), 60):
        split_world.put(image_key(f"{number:05d}"), made_jpeg(number))
    assert split_world.download().images == 220


def test_a_source_without_photos_is_one_sentence(split_world: World) -> None:
    with pytest.raises(UserError, match="photos are unusable"):
        split_world.download(source=split_world.data_uri)
    with pytest.raises(UserError, match=r"Not one of the 220 photos is usable: 220 missing\."):
        split_world.download(source=split_world.data_uri, max_reject_share=1.0)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(split_world: World, share: float) -> None:
    with pytest.raises(UserError, match="is not a share"):
        split_world.download(max_reject_share=share)


# The check of one photo


@pytest.mark.parametrize(
    "data",
    [
        jpeg("CMYK"),
        jpeg("L"),
        jpeg(exif=Image.Exif()),
        jpeg(format="GIF", save_all=True, append_images=[Image.new("RGB", (40, 30), "red")]),
        jpeg(format="PNG"),
    ],
    ids=["CMYK", "greyscale", "EXIF", "animated", "PNG"],
)
def test_unusual_photos_are_decoded(data: bytes) -> None:
    assert not isinstance(check("1", data), Reject)


def test_a_photo_turned_by_exif_is_decoded() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert not isinstance(check("1", jpeg(exif=exif)), Reject)


def test_a_photo_of_65500_pixels_width_is_rejected_before_it_is_decoded() -> None:
    file = io.BytesIO()
    Image.new("L", (65_500, 16)).save(file, "JPEG")
    rejected = check("1", file.getvalue())
    assert isinstance(rejected, Reject)
    assert rejected.reason == "too_many_pixels"


@given(st.binary(max_size=400))
def test_any_bytes_are_a_photo_or_have_a_reason(data: bytes) -> None:
    result = check("1", data)
    assert not isinstance(result, Reject) or (result.reason and result.detail)


@given(st.integers(0, 1200), st.integers(1, 255), st.integers(0, 1200))
def test_a_damaged_photo_is_a_photo_or_has_a_reason(place: int, flip: int, length: int) -> None:
    data = bytearray(made_jpeg(1))
    data[place % len(data)] ^= flip
    result = check("1", bytes(data[: max(length, 1)]))
    assert not isinstance(result, Reject) or (result.reason and result.detail)


# Near-identical photos


def noisy(pixels: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-3, 4, pixels.shape)
    return np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8)


def test_photos_of_the_same_thing_are_found_among_others() -> None:
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 256, (17, 17, 3), dtype=np.uint8) for _ in range(500)]
    pictures += [noisy(pictures[7], 1), noisy(pictures[400], 2)]
    hashes = [perceptual_hash(picture) for picture in pictures]
    assert near_groups(hashes, near_limit(hashes)) == [[7, 500], [400, 501]]


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.sets(st.integers(0, HASH_BITS - 1), max_size=20))
def test_hashes_close_to_each_other_are_a_group(first: bytes, flipped: set[int]) -> None:
    bits = np.unpackbits(np.frombuffer(first, np.uint8))
    bits[sorted(flipped)] ^= 1
    assert near_groups([first, np.packbits(bits).tobytes()]) == [[0, 1]]
    bits[:] ^= 1
    assert len(flipped) > NEAR_BITS or near_groups([first, np.packbits(bits).tobytes()]) == []


@pytest.mark.parametrize("flips", [0, 4])
def test_ten_thousand_equal_photos_take_little_memory(flips: int) -> None:
    draw = np.random.default_rng(0)
    bits = np.zeros((10_000, HASH_BITS), bool)
    bits[np.arange(10_000)[:, None], draw.integers(0, HASH_BITS, (10_000, flips))] = True
    hashes = [row.tobytes() for row in np.packbits(bits, axis=1)]
    tracemalloc.start()
    groups = near_groups(hashes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(groups) == 1
    assert len(groups[0]) > 9_990
    assert peak < 50e6


def test_photos_that_are_alike_by_nature_are_not_taken_for_the_same() -> None:
    """As empty drawn bins are: most differ in few bits, and a second photo of one in fewer."""
    draw = np.random.default_rng(0)
    bits = draw.random((400, HASH_BITS)) < 0.08
    bits[200] = bits[199] ^ (draw.random(HASH_BITS) < 0.01)
    hashes = [row.tobytes() for row in np.packbits(bits, axis=1)]
    assert SAME_BITS <= near_limit(hashes) < NEAR_BITS
    groups = near_groups(hashes, near_limit(hashes))
    assert [199, 200] in groups
    assert len(groups) <= 4


def test_a_download_that_dies_while_its_page_is_drawn_fetches_nothing_again(
    split_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    fetch = Store.fetch

    def counted(store: Store, key: str) -> Any:
        fetched.append(key)
        return fetch(store, key)

    monkeypatch.setattr(Store, "fetch", counted)

    def killed(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as dying:
        dying.setattr(download, "write_report", killed)
        with pytest.raises(MemoryError):
            split_world.download(shard_bytes=SMALL)
    assert len(fetched) == 220
    split_world.download(shard_bytes=SMALL)
    assert len(fetched) == 220
    assert not list(open_store(split_world.data_uri).list("state/download/"))
