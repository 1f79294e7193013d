"""The folder of a local run that is another user's, or has links in it: one sentence, and nothing is written."""

import os
from pathlib import Path

import pytest

from components.core.errors import UserError
from pipeline.home import checked_home
from pipeline.local import run_local
from pipeline.parameters import Parameters
from pipeline.with_store import run_with_store


@pytest.mark.parametrize(
    "place", ["store", "store/lock", "store/s3.json", "store/weed.log", "store/grpc.key", "runs", "kfp/termination-log"]
)
def test_a_link_in_the_folder_is_a_sentence_and_what_it_leads_to_stays(tmp_path: Path, place: str) -> None:
    home, target = tmp_path / "home", tmp_path / "target"
    target.write_text("of some worth")
    (home / place).parent.mkdir(parents=True)
    (home / place).symlink_to(target)
    with pytest.raises(UserError, match=f"home/{place} is a link, which a run does not follow; remove it"):
        run_local(Parameters(), home)
    assert target.read_text() == "of some worth"
    assert {path.name for path in tmp_path.iterdir()} == {"home", "target"}


def test_make_models_looks_before_it_starts_the_store_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "weed.log").symlink_to(tmp_path / "target")
    monkeypatch.setattr("pipeline.with_store.HOME", tmp_path)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(UserError, match="is a link"):
        run_with_store(["true"])
    assert not (tmp_path / "target").exists()


def test_what_a_run_itself_leaves_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "runs" / "20260101-000000").mkdir(parents=True)
    (tmp_path / "latest").symlink_to("runs/20260101-000000")
    (tmp_path / "latest.77.new").symlink_to("runs/20260101-000000")  # of a run that was killed just then
    assert checked_home(tmp_path) == tmp_path


def test_the_folder_itself_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "large")
    assert checked_home(tmp_path / "home") == tmp_path / "home"


@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_no_folder_in_its_place_is_a_sentence(tmp_path: Path, kind: str) -> None:
    home = tmp_path / "home"
    if kind == "file":
        home.touch()
    else:
        home.symlink_to(tmp_path / "absent")
    with pytest.raises(UserError, match=r"is no folder|does not exist"):
        checked_home(home)


def test_another_users_folder_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(UserError, match=r"belongs to user \d+, .* a folder of your own in BIN_COUNTER_HOME"):
        run_local(Parameters(), tmp_path)
    assert list(tmp_path.iterdir()) == []
