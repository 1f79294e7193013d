"""A folder of photos under any names and a table of counts: what is taken, under which id, and what is told."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import UserError
from components.core.layout import IMAGE_ID
from components.core.records import block_of
from components.core.source import Source
from components.core.store import open_store
from components.ingest_metadata.table import read_table
from pipeline.local_store import RunningStore
from pipeline.source import check_source, prepare_source
from pipeline.source.photos import PhotoFolder, id_of


def a_folder(folder: Path, table: str, *files: str, name: str = "counts.csv") -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(f"photo {file}".encode())
    (folder / name).write_text(table)
    return folder


def counts(folder: Path) -> dict[str, int | None]:
    return {photo.file: photo.row.count for photo in PhotoFolder.open(folder).photos}


def test_photos_of_any_names_and_sub_folders_get_their_counts(tmp_path: Path) -> None:
    files = ("IMG_1.JPG", "shelf $4's/b c.jpeg", "x.png", "y.webp", "z.jpg")
    table = "file;count\nIMG_1.JPG;1\nshelf $4's/b c.jpeg;2\nX.PNG;3\ny;4\nsub\\z.jpg;5\n"
    assert counts(a_folder(tmp_path, table, *files)) == dict(zip(sorted(files), (1, 2, 3, 4, 5), strict=True))


def test_what_is_passed_over_is_told_with_its_reason(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"a secret")
    table = "file,count\na.jpg,3\nb.jpg,many\ngone.jpg,2\na.jpg,4\nsame.jpg,1\nlink.jpg,2\nout.jpg,2\n"
    folder = a_folder(tmp_path / "bins", table, "a.jpg", "b.jpg", "c.jpg", "x/same.jpg", "y/same.jpg", "notes.txt")
    (folder / "link.jpg").symlink_to("c.jpg")
    (folder / "out.jpg").symlink_to(outside)
    source = PhotoFolder.open(folder)
    assert [photo.file for photo in source.photos] == ["a.jpg", "link.jpg"]
    told = dict(source.skipped.rows())
    assert told["b.jpg"] == "its count is 'many', not a whole number from 0"
    assert told["c.jpg"] == "a photo that counts.csv does not name"
    assert told["gone.jpg"] == "there is no photo of this name"
    assert told["a.jpg"] == "row 1 of the table has this photo already"
    assert told["same.jpg"] == "several photos are called so"
    assert told["notes.txt"].startswith("not a photo")
    assert told["x/same.jpg"] == told["y/same.jpg"] == "a photo that counts.csv does not name"


def test_a_link_out_of_the_folder_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"a secret")
    folder = a_folder(tmp_path / "bins", "file,count\na.jpg,3\nout.jpg,2\n", "a.jpg")
    (folder / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    source = PhotoFolder.open(folder)
    assert b"a secret" not in dict(source.files()).values()
    assert ("out.jpg", "a link that leads out of the folder") in source.skipped.rows()


def test_a_name_of_digits_is_its_id_and_numbers_of_one_camera_are_neighbours() -> None:
    assert id_of("01044.jpg") == "01044"
    assert block_of(id_of("IMG_0041.JPG")) == block_of(id_of("IMG_0042.JPG"))
    assert id_of("monday/IMG_0041.JPG") != id_of("tuesday/IMG_0041.JPG")
    assert id_of("a/7.jpg") != "7"


@given(st.text(min_size=1, max_size=30))
def test_every_name_has_an_id_that_the_dataset_could_have(name: str) -> None:
    assert IMAGE_ID.fullmatch(id_of(name + ".jpg"))
    assert id_of(name + ".jpg") == id_of(name + ".jpg")


@pytest.mark.parametrize(
    ("table", "files", "said"),
    [
        ("file,count\nb.jpg,1\n", ("a.jpg",), "Not one of the 1 photos in .* has a count in counts.csv"),
        ("a,b\n1,2\n", ("a.jpg",), "The table has no column file"),
        ("file,count\n1.jpg,1\n1.png,1\n", ("1.jpg", "1.png"), "would have the same id 1; rename one"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, table: str, files: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        check_source(str(a_folder(tmp_path, table, *files)))


def test_of_two_tables_one_is_named(tmp_path: Path) -> None:
    a_folder(tmp_path, "file,count\na.jpg,1\n", "a.jpg")
    a_folder(tmp_path, "file,count\na.jpg,2\n", "a.jpg", name="more.tsv")
    with pytest.raises(UserError, match=r"holds 2 tables \(counts.csv, more.tsv\); .*SOURCE=.*#counts.csv"):
        check_source(str(tmp_path))
    check_source(f"{tmp_path}#counts.csv")


def test_a_folder_without_a_table_says_what_to_put_beside_the_photos(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    with pytest.raises(UserError, match="a CSV with the columns file and count"):
        check_source(str(tmp_path))


def test_it_is_loaded_as_a_source_whose_table_ingest_reads(tmp_path: Path, store_environment: RunningStore) -> None:
    table = "file,count,bin,site,camera,taken_at\nIMG_7.png,3,B4,north,c2,2026-11-26\n"
    prepared = prepare_source(str(a_folder(tmp_path, table, "IMG_7.png")))
    source = Source.parse(prepared.uri)
    image_id = id_of("IMG_7.png")
    assert open_store(source.photo_bucket()).get(f"bin-images/{image_id}.jpg") == b"photo IMG_7.png"
    [[record]] = read_table(source.metadata)
    assert (record.image_id, record.quantity, record.group, record.file) == (image_id, 3, "B4", "IMG_7.png")  # type: ignore[union-attr]
    (tmp_path / "copy").write_bytes(open_store(source.photo_bucket()).get("bins.parquet"))
    assert pq.read_table(tmp_path / "copy").to_pylist()[0]["camera"] == "c2"
    assert prepare_source(str(tmp_path)).snapshot == prepared.snapshot
