"""What is served and given away is the version in service, or the one asked for, with a card that says what it is."""

from pathlib import Path
from uuid import uuid4

import pytest

from components.core.bundle import bundle_version
from components.core.errors import UserError
from components.core.registry import Figures, Registry
from components.deploy.export import CARD, export_version, fetch_version
from components.deploy.models import print_models
from pipeline.local_store import RunningStore
from tests.small_model import write_small_bundle

FIGURES = Figures(
    accuracy=0.5, accuracy_ci95=(0.4, 0.6), baseline_accuracy=0.25, loss=1.1, rmse=1.2, within_one=0.9, n_test=120
)


@pytest.fixture
def uri(store_environment: RunningStore) -> str:
    return f"s3://models/{uuid4().hex}"


def published(uri: str, folder: Path, shift: float = 0.0, **recorded: object) -> str:
    """A version that is in service from now on."""
    registry = Registry.open(uri)
    version = registry.publish(write_small_bundle(folder, shift).folder, [])
    registry.advance(registry.current(), version, "", "", "local", FIGURES, **recorded)  # type: ignore[arg-type]
    return version


def test_without_a_version_the_one_in_service_is_fetched_and_after_a_rollback_the_earlier(
    uri: str, tmp_path: Path
) -> None:
    first, second = published(uri, tmp_path / "1"), published(uri, tmp_path / "2", shift=1.0)
    assert fetch_version(uri, "", tmp_path / "served") == tmp_path / "served" / second
    registry = Registry.open(uri)
    registry.advance(registry.current(), first, second, "", "local", FIGURES)
    assert bundle_version(fetch_version(uri, "", tmp_path / "served")) == first
    assert fetch_version(uri, second, tmp_path / "served").name == second


def test_a_damaged_copy_is_fetched_again(uri: str, tmp_path: Path) -> None:
    version = published(uri, tmp_path / "1")
    place = fetch_version(uri, "", tmp_path)
    (place / "model.onnx").write_bytes(b"damaged")
    assert bundle_version(fetch_version(uri, "", tmp_path)) == version


def test_nothing_in_service_says_what_to_do(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No model is in service yet; run `make pipeline`, or .* MODEL="):
        fetch_version(uri, "", tmp_path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("s3://bin-source/generated-1a2b", "No real photo was seen"),
        ("s3://aft-vbi-pds", "CC BY-NC-SA 3.0 US"),
        ("s3://bin-source/folder-1a2b", "Photos from s3://bin-source/folder-1a2b; their owner"),
        ("", "was not recorded"),
    ],
)
def test_an_exported_version_has_a_card_that_says_where_its_photos_come_from(
    uri: str, tmp_path: Path, source: str, said: str
) -> None:
    version = published(uri, tmp_path / "1", source=source, forced=True)
    folder = export_version(uri, version, tmp_path)
    card = (folder / CARD).read_text()
    assert said in card
    assert "accuracy 50.0% (95 % interval 40.0% to 60.0%)" in card
    assert "The gate refused this model" in card
    assert bundle_version(folder) == version  # a card does not make another version of it


def test_the_list_tells_baseline_recipe_data_seed_and_what_was_forced(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = published(uri, tmp_path / "1", source="s3://bin-source/generated-1", forced=True)
    second = published(uri, tmp_path / "2", shift=1.0, source="s3://aft-vbi-pds", forced=False)
    print_models(uri)
    head, newer, older = capsys.readouterr().out.splitlines()
    assert {"baseline", "recipe", "data", "photos", "seed", "gate"} <= set(head.split())
    assert newer.split()[:2] == [second, "serving"]
    assert "25.0%" in newer
    assert {"public", "passed"} <= set(newer.split())
    assert older.split()[0] == first
    assert {"drawn", "forced"} <= set(older.split())
