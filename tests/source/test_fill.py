"""Loading a source into the store: once, whole, and again only when it changed."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.errors import UserError
from components.core.store import open_store
from drawn.bins import draw_bins
from pipeline.local_store import RunningStore
from pipeline.source import check_source, prepare_source
from pipeline.source.fill import COMPLETE_MARKER, fill

pytestmark = pytest.mark.usefixtures("store_environment")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for key, content in {"metadata/00001.json": b"{}", "bin-images/00001.jpg": uuid.uuid4().bytes}.items():
        (tmp_path / key).parent.mkdir()
        (tmp_path / key).write_bytes(content)
    return tmp_path


def keys(uri: str) -> set[str]:
    return {entry.key.removeprefix(uri.split("/", 3)[3] + "/") for entry in open_store(uri).list()} - {COMPLETE_MARKER}


def test_a_folder_is_loaded_under_a_prefix_of_its_own(folder: Path) -> None:
    prepared = prepare_source(str(folder))
    assert prepared.snapshot in prepared.uri
    assert open_store(prepared.uri).get("bin-images/00001.jpg") == (folder / "bin-images/00001.jpg").read_bytes()


def test_an_unchanged_source_is_not_loaded_again(folder: Path) -> None:
    first = prepare_source(str(folder))
    open_store(first.uri).delete("metadata/00001.json")  # would come back if it were
    assert prepare_source(str(folder)) == first
    assert not open_store(first.uri).exists("metadata/00001.json")


def test_a_changed_source_becomes_another_snapshot_without_the_old_files(folder: Path) -> None:
    first = prepare_source(str(folder))
    (folder / "bin-images/00001.jpg").rename(folder / "bin-images/00002.jpg")
    second = prepare_source(str(folder))
    assert second.snapshot != first.snapshot
    assert not open_store(second.uri).exists("bin-images/00001.jpg")
    assert open_store(second.uri).exists("bin-images/00002.jpg")


def test_an_interrupted_fill_is_done_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> int:
        fill(arguments[0], [("metadata/00001.json", b"half")])  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.source.fill.fill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_source(str(folder))
    prepared = prepare_source(str(folder))
    assert open_store(prepared.uri).get("metadata/00001.json") == b"{}"
    assert open_store(prepared.uri).exists("bin-images/00001.jpg")


def test_an_interrupt_leaves_no_thread_and_reads_no_further(store_environment: RunningStore) -> None:
    read = 0

    def files() -> Iterator[tuple[str, bytes]]:
        nonlocal read
        for read in range(1, 10_000):
            if read == 100:
                raise KeyboardInterrupt
            yield f"interrupted/{read}", b"x"

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        fill(open_store("s3://bin-source"), files())
    assert read == 100
    assert threading.active_count() <= before + 1  # tqdm keeps one watching thread


def test_drawn_bins_are_loaded_with_their_faults() -> None:
    prepared = prepare_source("generated", seed=5, count=25)
    expected = {f"metadata/{each.image_id}.json" for each in draw_bins(25, 5)}
    expected |= {f"bin-images/{each.image_id}.jpg" for each in draw_bins(25, 5) if each.jpeg}
    assert expected == keys(prepared.uri)
    assert prepare_source("generated", seed=6, count=25).snapshot != prepared.snapshot


def test_a_bucket_is_read_where_it_is_and_named_by_its_content(folder: Path) -> None:
    loaded = prepare_source(str(folder)).uri
    first = prepare_source(loaded)
    assert first.uri == loaded
    assert prepare_source(loaded) == first
    open_store(loaded).put("metadata/00001.json", b'{"EXPECTED_QUANTITY": 1}')
    assert prepare_source(loaded).snapshot != first.snapshot


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("generatd", "not a folder that exists; give 'generated', a folder, or an s3:// address"),
        ("s3:/bucket", "is not an S3 address"),
    ],
)
def test_an_unknown_source_is_refused_before_anything_starts(source: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_source(source)


def test_an_empty_bucket_is_told(store_environment: RunningStore) -> None:
    with pytest.raises(UserError, match="holds nothing under metadata/"):
        prepare_source("s3://bin-source/nothing-here")


def test_a_bucket_that_does_not_exist_is_told(store_environment: RunningStore) -> None:
    with pytest.raises(UserError, match="no-such-bucket"):
        prepare_source("s3://no-such-bucket")


def test_an_empty_folder_is_told_and_leaves_no_marker(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "bin-images").mkdir()
    with pytest.raises(UserError, match="holds no file that is named after a bin's id"):
        prepare_source(str(tmp_path))
    with pytest.raises(UserError, match="holds no file"):
        prepare_source(str(tmp_path))
