import hashlib
import io
from pathlib import Path

import pytest

from components.core.errors import UserError
from components.core.layout import DATA_BUCKET, shard_key
from components.core.shards import Shard, ShardIndex, ShardWriter, read_images
from components.core.store import open_store
from pipeline.local_store import RunningStore

PHOTOS = {"00001": b"first photo", "1": b"", "123456": b"x" * 3000}
DATA_URI = f"s3://{DATA_BUCKET}"


def written() -> tuple[bytes, str]:
    file = io.BytesIO()
    writer = ShardWriter(file)
    for image_id, jpeg in PHOTOS.items():
        writer.add(image_id, jpeg)
    return file.getvalue(), writer.close()


@pytest.fixture
def index(store_environment: RunningStore) -> ShardIndex:
    file = io.BytesIO()
    writer = ShardWriter(file)
    for image_id, jpeg in PHOTOS.items():
        writer.add(image_id, jpeg)
    digest = writer.close()
    data = file.getvalue()
    open_store(DATA_URI).put(shard_key(digest), data)
    return ShardIndex.of(DATA_URI, [Shard(key=shard_key(digest), sha256=digest, images=3, bytes=len(data))])


def test_the_same_photos_give_the_same_bytes() -> None:
    assert written() == written()


def test_the_digest_is_that_of_the_whole_tar() -> None:
    file = io.BytesIO()
    writer = ShardWriter(file)
    writer.add("00001", b"photo")
    assert writer.close() == hashlib.sha256(file.getvalue()).hexdigest()


def test_what_was_written_is_read_back_in_order(index: ShardIndex) -> None:
    assert list(read_images(index)) == list(PHOTOS.items())


def test_an_index_survives_its_file(index: ShardIndex, tmp_path: Path) -> None:
    index.write(tmp_path / "deep" / "index")
    assert ShardIndex.read(tmp_path / "deep" / "index") == index


def test_a_shard_with_other_bytes_is_refused(index: ShardIndex) -> None:
    store = open_store(DATA_URI)
    data = bytearray(store.get(index.shards[0].key))
    data[600] ^= 1
    store.put(index.shards[0].key, bytes(data))
    with pytest.raises(UserError, match="does not match its checksum"):
        list(read_images(index))


def test_a_shard_that_is_gone_is_named(index: ShardIndex) -> None:
    open_store(DATA_URI).delete(index.shards[0].key)
    with pytest.raises(UserError, match=r"is gone; run the download again"):
        list(read_images(index))


@pytest.mark.parametrize("content", ["", "{}", "not json"])
def test_a_file_that_is_no_index_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "index").write_text(content)
    with pytest.raises(UserError, match="cannot be read as a shard index"):
        ShardIndex.read(tmp_path / "index")
    with pytest.raises(UserError, match="no shard index"):
        ShardIndex.read(tmp_path / "none")
