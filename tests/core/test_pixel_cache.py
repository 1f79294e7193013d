"""Decoded photos on disk: made anew when they would look different, and never used when they are damaged."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core import pixel_cache
from components.core.errors import UserError
from components.core.pixel_cache import PixelCache, open_pixels
from components.core.pixels import decode_squashed
from components.core.shards import Shard, ShardIndex, ShardWriter
from components.core.store import open_store
from pipeline.local_store import RunningStore

DATA_URI = "s3://bin-counter/pixel-cache"


def jpeg(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def index(store_environment: RunningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShardIndex:
    monkeypatch.setenv("BIN_COUNTER_CACHE", str(tmp_path))
    file = io.BytesIO()
    writer = ShardWriter(file)
    for place in range(6):
        writer.add(f"{place:05d}", jpeg(place))
    digest = writer.close()
    key = f"shards/{digest}.tar"
    open_store(DATA_URI).put(key, file.getvalue())
    return ShardIndex.of(DATA_URI, [Shard(key=key, sha256=digest, images=writer.images, bytes=writer.bytes)])


def flip_a_bit(cache: PixelCache, row: int) -> None:
    place = row * cache.size * cache.size * 3 + 7
    with cache.path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("row", [0, 3, 5])
def test_a_flipped_bit_is_told_and_the_next_run_decodes_anew(index: ShardIndex, row: int) -> None:
    cache = open_pixels(index, 32)
    flip_a_bit(cache, row)
    others = [other for other in range(6) if other != row]
    assert np.array_equal(cache.read(others)[0], decode_squashed(jpeg(others[0]), 32))
    with pytest.raises(UserError, match=r"were damaged on this disk and have been removed; run again"):
        cache.read([row])
    assert np.array_equal(open_pixels(index, 32).read([row])[0], decode_squashed(jpeg(row), 32))


def test_a_file_cut_short_is_told_and_the_next_run_decodes_anew(index: ShardIndex) -> None:
    cache = open_pixels(index, 32)
    with cache.path.open("r+b") as file:
        file.truncate(cache.path.stat().st_size - 1)
    with pytest.raises(UserError, match="have been removed"):
        cache.read([5])
    assert open_pixels(index, 32).read([5]).any()


def test_the_same_code_decodes_once(index: ShardIndex) -> None:
    before = open_pixels(index, 32).path.stat()
    assert open_pixels(index, 32).path.stat() == before


@pytest.mark.parametrize("changed", ["code_digest", "decoder_versions"])
def test_other_code_and_another_decoder_decode_anew(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    before = open_pixels(index, 32)
    monkeypatch.setattr(pixel_cache, changed, lambda *_: "another")
    after = open_pixels(index, 32)
    assert after.path != before.path
    assert after.made_by != before.made_by
