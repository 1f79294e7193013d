"""Filling a cluster's source bucket: what is copied, what is left alone, and what a run then sees."""

import uuid
from pathlib import Path

import pytest

from components.core.errors import UserError
from components.core.source import Source
from components.core.store import open_store
from pipeline.source.cluster import copy_source, name_of

pytestmark = pytest.mark.usefixtures("store_environment")


def add_bin(folder: Path, image_id: str) -> None:
    for key, content in ((f"metadata/{image_id}.json", b"{}"), (f"bin-images/{image_id}.jpg", uuid.uuid4().bytes)):
        (folder / key).parent.mkdir(exist_ok=True)
        (folder / key).write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for image_id in ("00001", "00002"):
        add_bin(tmp_path, image_id)
    return tmp_path


@pytest.fixture
def to() -> str:
    return f"s3://bin-source/{uuid.uuid4().hex}"


def test_a_folder_is_copied_and_the_same_again_copies_nothing(folder: Path, to: str) -> None:
    assert copy_source(str(folder), to) == (4, 0)
    before = Source.parse(to).snapshot()
    assert copy_source(str(folder), to) == (0, 4)
    assert Source.parse(to).snapshot() == before


def test_bins_that_are_added_come_along_and_change_the_snapshot(folder: Path, to: str) -> None:
    copy_source(str(folder), to)
    before = Source.parse(to).snapshot()
    add_bin(folder, "00003")
    assert copy_source(str(folder), to) == (2, 4)
    assert Source.parse(to).snapshot() != before


def test_a_bucket_is_copied_by_its_first_bins_also_without_their_photos(folder: Path, to: str) -> None:
    add_bin(folder, "00003")
    copy_source(str(folder), to)
    open_store(to).delete("bin-images/00001.jpg")
    copy = f"{to}-copy"
    assert copy_source(to, copy, limit=2) == (3, 0)
    copied = {entry.key for entry in open_store(copy).list()}
    assert copied == {"metadata/00001.json", "metadata/00002.json", "bin-images/00002.jpg"}


def test_an_empty_bucket_is_one_sentence(to: str) -> None:
    with pytest.raises(UserError, match="holds no bin"):
        copy_source(to, f"{to}-copy")


@pytest.mark.parametrize(
    ("source", "name"),
    [("generated", "generated"), ("/data/My Bins/", "my-bins"), ("s3://aft-vbi-pds", "aft-vbi-pds"), (".", None)],
)
def test_the_address_stays_the_same_when_a_source_grows(source: str, name: str | None) -> None:
    assert name_of(source) == (name or name_of(str(Path.cwd())))
