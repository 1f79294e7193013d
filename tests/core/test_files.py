"""Files and folders appear whole or not at all, and whoever the umask lets read them can."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from components.core.bundle import read_bundle
from components.core.errors import reported
from components.core.files import folder_whole, write_whole, written_whole
from tests.small_model import write_small_bundle


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_bundle_has_the_modes_that_the_umask_gives(tmp_path: Path, umask: int) -> None:
    bundle = write_small_bundle(tmp_path / "model")
    assert mode(bundle.folder) == 0o777 & ~umask
    assert {path.name: mode(path) for path in bundle.folder.iterdir()} == {
        path.name: 0o666 & ~umask for path in bundle.folder.iterdir()
    }


def test_a_written_file_has_the_mode_that_the_umask_gives(tmp_path: Path, umask: int) -> None:
    write_whole(tmp_path / "deep" / "file", "text")
    assert mode(tmp_path / "deep" / "file") == 0o666 & ~umask


@pytest.mark.parametrize("before", [None, "what was there"])
def test_a_file_whose_writing_fails_stays_as_it_was(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_text(before)
    with suppress(KeyboardInterrupt), written_whole(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert [each.read_text() for each in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_folder_whose_writing_fails_stays_as_it_was(tmp_path: Path) -> None:
    with folder_whole(tmp_path / "folder") as partial:
        (partial / "file").write_text("before")
    with suppress(KeyboardInterrupt), folder_whole(tmp_path / "folder") as partial:
        (partial / "file").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "file").read_text() == "before"


@pytest.mark.parametrize("closed", ["model.json", "model.onnx", "weights.safetensors"])
def test_a_bundle_that_may_not_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], closed: str
) -> None:
    bundle = write_small_bundle(tmp_path / "model")
    opened = Path.open

    def refused(path: Path, *arguments: object, **options: object) -> object:  # root may read what it may not
        if path.name == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "log"))
    with pytest.raises(SystemExit) as ended, reported():
        read_bundle(bundle.folder)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: User ")
    assert f"may not use {bundle.folder / closed}" in said
    assert said.count("\n") == 1
