"""Documents that are kept: newer ones of the same major are read, others refused, damaged ones told."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.core.bundle import BundleInfo, bundle_version, read_bundle
from components.core.errors import UserError
from components.core.registry import Deployment
from components.core.shards import ShardIndex
from components.core.stored import Stored
from components.core.verdict import Verdict
from tests.small_model import write_small_bundle

FIGURES = {
    "accuracy": 0.4,
    "accuracy_ci95": [0.3, 0.5],
    "baseline_accuracy": 0.2,
    "loss": 1.3,
    "rmse": 1.1,
    "within_one": 0.8,
    "n_test": 100,
}
DOCUMENTS: dict[type[Stored], dict[str, Any]] = {
    BundleInfo: {
        "backbone": "resnet18",
        "image_size": 224,
        "max_count": 5,
        "has_out_of_range": True,
        "temperature": 1.0,
        "recipe": "finetune",
        "data_fingerprint": "",
        "training_ids_digest": "",
    },
    ShardIndex: {"data_uri": "s3://bins", "shards": [], "images": 0, "digest": "0"},
    Deployment: {"number": 1, "version": "0123456789ab", "deployed_at": "2026-01-01T00:00:00Z"},
    Verdict: {"passed": True, "forced": False, "reason": "", "version": "", "champion": "", "figures": FIGURES},
}
EACH = pytest.mark.parametrize("kind", list(DOCUMENTS), ids=lambda kind: kind.__name__)


def written(kind: type[Stored], **changed: object) -> bytes:
    return json.dumps(DOCUMENTS[kind] | changed).encode()


@EACH
def test_what_is_written_says_its_format_and_comes_back(kind: type[Stored], tmp_path: Path) -> None:
    document = kind.parse(written(kind), "here")
    document.write(tmp_path / "kept.json")
    assert json.loads((tmp_path / "kept.json").read_text())["format"] == "1.0"
    assert kind.read(tmp_path / "kept.json") == document


@EACH
def test_a_document_from_before_there_was_a_format_is_read(kind: type[Stored]) -> None:
    assert kind.parse(written(kind), "here").format == "1.0"


@EACH
def test_fields_of_a_newer_minor_are_ignored(kind: type[Stored]) -> None:
    newer = kind.parse(written(kind, format="1.7", calibrated_by="a later idea"), "here")
    assert newer.model_copy(update={"format": "1.0"}) == kind.parse(written(kind), "here")


@EACH
@pytest.mark.parametrize("form", ["2.0", "0.9", "11.0", "two", None, 2])
def test_another_major_is_refused_in_a_sentence(kind: type[Stored], form: object) -> None:
    with pytest.raises(UserError, match=rf"here is {kind.what} of format .*reads format 1; use the version") as told:
        kind.parse(written(kind, format=form, passed="maybe"), "here")
    assert "\n" not in str(told.value)


@EACH
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": "1.0"}'])
def test_what_is_no_such_document_is_told_with_the_remedy(kind: type[Stored], data: bytes) -> None:
    with pytest.raises(UserError, match=f"here cannot be read as {kind.what} .*; {kind.remedy}.") as told:
        kind.parse(data, "here")
    assert "\n" not in str(told.value)


@EACH
def test_a_missing_file_is_told(kind: type[Stored], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"There is no .* at {tmp_path}/none.json; {kind.remedy}."):
        kind.read(tmp_path / "none.json")


def test_a_bundle_of_a_newer_minor_is_read_as_it_is(tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "model")
    path = bundle.folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": "1.9", "new": [1]}))
    assert read_bundle(bundle.folder).info.format == "1.9"
    assert len(bundle_version(bundle.folder)) == 12
