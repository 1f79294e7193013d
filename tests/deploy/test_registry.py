"""The registry on a real store: versions never change, and of many deployers one wins."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from components.core.bundle import bundle_version
from components.core.errors import UserError
from components.core.layout import LATEST_KEY, deployment_key, version_prefix
from components.core.registry import Deployment, GoldenAnswer, GoldenRequest, Registry, SupersededError
from pipeline.local_store import RunningStore
from tests.small_model import photo, write_small_bundle


@pytest.fixture
def registry(store_environment: RunningStore) -> Registry:
    """An empty registry: a prefix of its own in the models bucket."""
    return Registry.open(f"s3://models/{uuid4().hex}")


def advance(registry: Registry, version: str, run: str = "", champion: str = "") -> Deployment:
    return registry.advance(registry.current(), version, champion, run, "local", None)


def golden() -> list[GoldenRequest]:
    return [GoldenRequest(photo(3), GoldenAnswer(image_id="01044", count=3, scores=(0.1, 0.2, 0.5, 0.1, 0.1)))]


def test_a_published_version_comes_back_whole(registry: Registry, tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "bundle")
    version = registry.publish(bundle.folder, golden())
    assert registry.versions() == [version] == [bundle_version(bundle.folder)]
    assert bundle_version(registry.fetch(version, tmp_path / "copy")) == version
    assert registry.golden(version) == golden()


def test_publishing_again_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "bundle")
    version = registry.publish(bundle.folder, golden())
    before = sorted((entry.key, entry.etag) for entry in registry.store.list())
    assert registry.publish(bundle.folder, []) == version
    assert sorted((entry.key, entry.etag) for entry in registry.store.list()) == before


def test_a_version_half_written_is_no_version_and_is_completed_by_the_next(registry: Registry, tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "bundle")
    version = bundle_version(bundle.folder)
    registry.store.put(f"{version_prefix(version)}model.onnx", bundle.onnx_path.read_bytes())
    assert registry.versions() == []
    registry.publish(bundle.folder, golden())
    assert registry.versions() == [version]


def test_something_else_under_a_versions_name_is_refused(registry: Registry, tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "bundle")
    registry.store.put(f"{version_prefix(bundle_version(bundle.folder))}model.onnx", b"something else")
    with pytest.raises(UserError, match="under a name that never changes"):
        registry.publish(bundle.folder, golden())
    assert registry.versions() == []


def test_a_version_damaged_in_the_store_is_not_fetched(registry: Registry, tmp_path: Path) -> None:
    version = registry.publish(write_small_bundle(tmp_path / "bundle").folder, golden())
    registry.store.put(f"{version_prefix(version)}model.onnx", b"damaged")
    with pytest.raises(UserError, match="damaged"):
        registry.fetch(version, tmp_path / "copy")


@pytest.mark.parametrize("version", ["0123456789ab", "../../latest", ""])
def test_a_version_that_is_not_there_is_named(registry: Registry, version: str) -> None:
    with pytest.raises(UserError, match="version"):
        registry.info(version)


def test_nothing_serves_before_the_first_deploy(registry: Registry) -> None:
    assert (registry.current(), registry.serving(), registry.champion_for("run")) == (None, "", "")


def test_latest_json_names_the_version_in_service(registry: Registry) -> None:
    advance(registry, "aaaaaaaaaaaa")
    advance(registry, "bbbbbbbbbbbb", run="r2", champion="aaaaaaaaaaaa")
    latest = json.loads(registry.store.get(LATEST_KEY))
    assert (latest["version"], latest["champion"], latest["run"]) == ("bbbbbbbbbbbb", "aaaaaaaaaaaa", "r2")
    assert registry.serving() == "bbbbbbbbbbbb"
    assert [record.version for record in registry.deployments()] == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]


def test_of_deployers_that_saw_the_same_state_one_wins(registry: Registry) -> None:
    advance(registry, "000000000000")
    seen = registry.current()

    def try_it(number: int) -> str | None:
        try:
            return registry.advance(seen, f"{number:012x}", "", "", "local", None).version
        except SupersededError:
            return None

    with ThreadPoolExecutor(8) as pool:
        winners = [version for version in pool.map(try_it, range(1, 9)) if version]
    assert winners == [registry.serving()]
    assert json.loads(registry.store.get(LATEST_KEY))["version"] == registry.serving()


def test_a_pointer_left_behind_by_a_killed_deployer_is_caught_up(registry: Registry) -> None:
    newer = advance(registry, "aaaaaaaaaaaa").model_copy(update={"number": 2, "version": "bbbbbbbbbbbb"})
    registry.store.create(deployment_key(2), newer.model_dump_json().encode())
    assert registry.serving() == "bbbbbbbbbbbb"
    registry.write_latest()
    assert json.loads(registry.store.get(LATEST_KEY))["version"] == "bbbbbbbbbbbb"


def test_the_tenth_deployment_comes_after_the_ninth(registry: Registry) -> None:
    for number in range(11):
        advance(registry, f"{number:012x}")
    assert registry.serving() == f"{10:012x}"


def test_a_repeated_run_is_compared_with_the_same_champion(registry: Registry) -> None:
    advance(registry, "aaaaaaaaaaaa", run="first")
    assert registry.champion_for("second") == "aaaaaaaaaaaa"
    advance(registry, "bbbbbbbbbbbb", run="second", champion="aaaaaaaaaaaa")
    assert registry.champion_for("second") == "aaaaaaaaaaaa"
    assert registry.champion_for("third") == "bbbbbbbbbbbb"
    assert registry.champion_for("") == "bbbbbbbbbbbb"
