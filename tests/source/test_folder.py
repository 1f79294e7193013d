"""A dataset in a folder: both layouts read the same, odd entries are passed over and named, errors say what to do."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import UserError
from pipeline.source.folder import FolderSource

FILES = {
    "metadata/00001.json": b"{}",
    "metadata/1.json": b'{"EXPECTED_QUANTITY": 0}',
    "bin-images/00001.jpg": b"jpeg",
    "bin-images/1.jpg": b"another jpeg",
}


def write_plain(folder: Path) -> None:
    for key, content in FILES.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(content)


def write_archives(folder: Path) -> None:
    with (
        tarfile.open(folder / "metadata.tar.gz", "w:gz") as metadata,
        tarfile.open(folder / "bin-images.tar", "w") as images,
    ):
        for key, content in FILES.items():
            add(metadata if key.startswith("metadata") else images, key, content)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("write", [write_plain, write_archives])
def test_folders_and_archives_hold_the_same_files(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    source = FolderSource.open(tmp_path)
    assert dict(source.files()) == FILES
    assert len(source.skipped) == 0


def test_no_member_of_an_archive_leads_out_of_the_dataset(tmp_path: Path) -> None:
    write_archives(tmp_path)
    with tarfile.open(tmp_path / "bin-images.tar", "a") as archive:
        add(archive, "../../escaped.jpg", b"not a bin")
        add(archive, "/etc/00002.jpg", b"an absolute path, but a bin's name")
        add(archive, "bin-images/../00003.png", b"another suffix")
        link = tarfile.TarInfo("bin-images/00004.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        pipe = tarfile.TarInfo("bin-images/00005.jpg")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
    source = FolderSource.open(tmp_path)
    assert set(dict(source.files())) == {*FILES, "bin-images/00002.jpg"}
    assert len(source.skipped) == 4


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    write_plain(tmp_path)
    (tmp_path / "bin-images" / "00009.jpg").symlink_to("/etc/passwd")
    assert dict(FolderSource.open(tmp_path).files()) == FILES


def test_files_with_other_names_are_passed_over_and_named(tmp_path: Path) -> None:
    write_plain(tmp_path)
    (tmp_path / "metadata" / "notes.json").write_text("{}")
    source = FolderSource.open(tmp_path)
    assert dict(source.files()) == FILES
    assert list(source.skipped.told()) == ["notes.json: not named <image_id>.json"]


def test_a_missing_folder_is_told_with_what_may_be_given(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a folder that exists; give 'generated', a folder, or an s3:// address"):
        FolderSource.open(tmp_path / "absent")


@pytest.mark.parametrize("part", ["metadata", "bin-images"])
def test_a_folder_without_one_half_is_told_which(tmp_path: Path, part: str) -> None:
    write_plain(tmp_path)
    (tmp_path / part).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"neither {part}/ nor {part}\.tar"):
        FolderSource.open(tmp_path)


@pytest.mark.parametrize("name", ["metadata.tar.gz", "bin-images.tar"])
def test_a_truncated_archive_is_told_by_name(tmp_path: Path, name: str) -> None:
    write_archives(tmp_path)
    with tarfile.open(tmp_path / "bin-images.tar", "a") as archive:
        add(archive, "bin-images/00007.jpg", os.urandom(50_000))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        list(FolderSource.open(tmp_path).files())


def test_the_snapshot_changes_with_the_files_and_only_then(tmp_path: Path) -> None:
    write_plain(tmp_path)
    before = FolderSource.open(tmp_path).snapshot()
    assert FolderSource.open(tmp_path).snapshot() == before
    (tmp_path / "metadata" / "00001.json").write_bytes(b'{"EXPECTED_QUANTITY": 3}')
    assert FolderSource.open(tmp_path).snapshot() != before


def test_the_real_sample_is_read_whole(sample: Path) -> None:
    source = FolderSource.open(sample)
    keys = {key for key, _ in source.files()}
    assert len(keys) == 20_000
    assert {"metadata/1.json", "metadata/00001.json", "bin-images/1.jpg", "bin-images/00001.jpg"} <= keys
    assert len(source.skipped) == 0


def test_a_member_that_comes_twice_is_the_last_one(tmp_path: Path) -> None:
    write_archives(tmp_path)
    (tmp_path / "metadata.tar.gz").unlink()
    with tarfile.open(tmp_path / "metadata.tar", "w") as archive:
        for content in (b"old", b"new"):
            for name in ("00001.json", "other/00001.json", "2.json"):
                add(archive, name, content)
    files = [entry for entry in FolderSource.open(tmp_path).files() if entry[0] == "metadata/00001.json"]
    assert [content for _, content in files] == [b"old", b"old", b"new", b"new"]


@pytest.mark.parametrize("name", ["00010.JPG", "00010.jpeg", "00010.Jpg"])
def test_a_suffix_is_the_same_in_any_case_of_letters(tmp_path: Path, name: str) -> None:
    write_plain(tmp_path)
    (tmp_path / "bin-images" / name).write_bytes(b"photo")
    assert dict(FolderSource.open(tmp_path).files())["bin-images/00010.jpg"] == b"photo"


def test_a_zip_is_as_good_as_a_tar(tmp_path: Path) -> None:
    for half in ("metadata", "bin-images"):
        with zipfile.ZipFile(tmp_path / f"{half}.zip", "w") as archive:
            for key, content in FILES.items():
                if key.startswith(half):
                    archive.writestr(key, content)
    assert dict(FolderSource.open(tmp_path).files()) == FILES


def test_what_was_passed_over_is_told_by_why_and_never_raw(tmp_path: Path) -> None:
    write_archives(tmp_path)
    with tarfile.open(tmp_path / "bin-images.tar", "a") as archive:
        for number in range(300):
            add(archive, f"bin-images/._{number:05d}.jpg", b"resource fork")
        add(archive, "bin-images/\x1b[31m\r▶ deploy.jpg", b"an escape sequence")
    source = FolderSource.open(tmp_path)
    list(source.files())
    told = list(source.skipped.told())
    assert told[0].endswith("and 297 more: what macOS keeps beside a file")
    assert told[1] == "bin-images/\\x1b[31m\\r▶ deploy.jpg: not named <image_id>.jpg"


def test_a_header_that_would_fill_the_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write_archives(tmp_path)
    with tarfile.open(tmp_path / "bin-images.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("00001.jpg")
        member.pax_headers = {"comment": "x" * 2_000_000}
        archive.addfile(member)
    with pytest.raises(UserError, match=r"cannot be read \(a header of 2,0"):
        list(FolderSource.open(tmp_path).files())
