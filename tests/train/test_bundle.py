from pathlib import Path
from typing import Any

import pytest

from components.core.bundle import BundleInfo, bundle_version, read_bundle, write_bundle
from components.core.errors import UserError


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "weights.safetensors").write_bytes(b"weights")
    return folder


def info(**changes: Any) -> BundleInfo:
    fields: dict[str, Any] = {
        "backbone": "resnet18", "image_size": 64, "max_count": 5, "has_out_of_range": False, "temperature": 1.5,
        "recipe": "frozen", "data_fingerprint": "f", "training_ids_digest": "d",
    }  # fmt: skip
    return BundleInfo(**(fields | changes))


def test_a_bundle_reads_back_as_it_was_written(tmp_path: Path, files: Path) -> None:
    written = write_bundle(tmp_path / "bundle", info(metrics={"loss": 1.2}), files)
    assert read_bundle(tmp_path / "bundle") == written
    assert written.info.labels == (1, 2, 3, 4, 5)
    assert set(written.info.checksums) == {"model.onnx", "weights.safetensors"}


def test_the_version_follows_the_content(tmp_path: Path, files: Path) -> None:
    write_bundle(tmp_path / "first", info(), files)
    write_bundle(tmp_path / "same", info(), files)
    (files / "weights.safetensors").write_bytes(b"other weights")
    write_bundle(tmp_path / "other", info(), files)
    first, same, other = (bundle_version(tmp_path / name) for name in ("first", "same", "other"))
    assert first == same != other
    assert len(first) == 12


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, files: Path, name: str) -> None:
    write_bundle(tmp_path / "bundle", info(), files)
    (tmp_path / "bundle" / name).write_bytes(b"x")
    with pytest.raises(UserError, match=f"{name} is damaged"):
        read_bundle(tmp_path / "bundle")


def test_a_missing_file_is_refused_by_name(tmp_path: Path, files: Path) -> None:
    write_bundle(tmp_path / "bundle", info(), files)
    (tmp_path / "bundle" / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"lacks model\.onnx"):
        read_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("text", ["", "{", "{}", '{"backbone": 3}'])
def test_a_broken_model_json_is_one_sentence(tmp_path: Path, files: Path, text: str) -> None:
    write_bundle(tmp_path / "bundle", info(), files)
    (tmp_path / "bundle" / "model.json").write_text(text)
    with pytest.raises(UserError, match=r"model\.json cannot be read"):
        read_bundle(tmp_path / "bundle")


def test_a_checksum_cannot_point_outside_the_folder(tmp_path: Path, files: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", info(), files)
    forged = bundle.info.model_copy(update={"checksums": bundle.info.checksums | {"../files/model.onnx": "0" * 64}})
    (tmp_path / "bundle" / "model.json").write_text(forged.model_dump_json())
    with pytest.raises(UserError, match="no checksum for"):
        read_bundle(tmp_path / "bundle")


def test_a_write_that_fails_leaves_the_old_bundle(tmp_path: Path, files: Path) -> None:
    write_bundle(tmp_path / "bundle", info(), files)
    version = bundle_version(tmp_path / "bundle")
    (files / "model.onnx").unlink()
    with pytest.raises(UserError):
        write_bundle(tmp_path / "bundle", info(), files)
    assert bundle_version(tmp_path / "bundle") == version
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "files"]
