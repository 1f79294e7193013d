"""The whole DAG on this machine, on a small drawn set: what it leaves, and what a second run re-does."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.core.store import open_store
from components.prune.prune import Leftover, remove
from drawn.bins import draw_bins
from pipeline.local_store import local_store
from pipeline.run_record import State
from pipeline.runs_list import PAGES, list_runs

ROOT = Path(__file__).parent.parent.parent
# Without TUNE=true the study has one trial, which trains nothing.
STEPS = [
    "choose_recipe",
    "ingest_metadata",
    "split",
    "download",
    "tune_plan",
    "tune_trial",
    "tune_select",
    "train",
    "evaluate",
    "gate",
    "deploy",
]
# So small a model deserves no deployment; FORCE lets the deploy step show that it works all the same.
SMALL = ["RECIPE=frozen", "IMAGE_SIZE=64", "FORCE=true", "MAX_REJECT_SHARE=0.1", 'OVERRIDES={"batch_size": 32}']

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def bins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bins")
    for name in ("metadata", "bin-images"):
        (folder / name).mkdir()
    for drawn in draw_bins(240, seed=1):
        if drawn.metadata is not None:
            (folder / "metadata" / f"{drawn.image_id}.json").write_bytes(drawn.metadata)
        if drawn.jpeg is not None:
            (folder / "bin-images" / f"{drawn.image_id}.jpg").write_bytes(drawn.jpeg)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, bins: Path) -> Run:
    home = tmp_path_factory.mktemp("home")

    def run(*assignments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "pipeline", "run", f"SOURCE={bins}", *SMALL, *assignments],
            cwd=ROOT,
            env={**os.environ, "BIN_COUNTER_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )

    run.home = home  # type: ignore[attr-defined]
    return run


def executed(output: str) -> list[str]:
    return re.findall(r"^▶ (\w+)$", output, re.MULTILINE)


@pytest.fixture(scope="module")
def first(run: Run) -> "subprocess.CompletedProcess[str]":
    ended = run("EPOCHS=3")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def test_every_step_runs_in_order(first: "subprocess.CompletedProcess[str]") -> None:
    assert executed(first.stdout) == STEPS


def test_the_results_are_where_the_last_lines_say(run: Run, first: "subprocess.CompletedProcess[str]") -> None:
    latest = run.home / "latest"  # type: ignore[attr-defined]
    metrics = json.loads((latest / "metrics.json").read_text())
    wanted = "accuracy accuracy_ci95 loss mae rmse within_one quadratic_kappa ece baseline_accuracy n_test per_class"
    assert set(wanted.split()) | {"confusion"} <= set(metrics)
    assert (latest / "report.html").read_text().lstrip().lower().startswith("<!doctype html")
    assert (latest / "model" / "model.onnx").is_file()
    photos = sorted((latest / "photos").glob("*.jpg"))
    assert photos
    assert f"make predict IMAGE={latest}/photos/" in first.stdout.splitlines()[-1]
    rejects = (latest / "rejects.csv").read_text()
    assert all(step in rejects for step in ("ingest_metadata", "split", "download"))
    assert re.search(r"Test set: Average loss: \d+\.\d{4}, Accuracy: \d+/\d+ \(\d+%\)", first.stdout)
    assert "Deployed: version" in first.stdout
    assert "make serve" in first.stdout.splitlines()[-1]


def test_every_page_of_a_run_says_what_it_came_from_and_links_the_others(
    run: Run, first: "subprocess.CompletedProcess[str]", bins: Path
) -> None:
    latest = run.home / "latest"  # type: ignore[attr-defined]
    pages = {page.name: page.read_text() for page in latest.glob("*.html")}
    assert set(pages) == set(PAGES)
    for name, page in pages.items():
        links = set(re.findall(r'<a href="([^"]+)"', page))
        assert links == {*(set(PAGES) - {name}), "../runs.html"}
        assert all((latest / link).is_file() for link in links - {"../runs.html"})
        assert f"from the folder {bins}." in page
        assert re.search(r"Made \d{4}-\d\d-\d\d \d\d:\d\d UTC", page)
        assert f"make pipeline SOURCE={bins}" in page.replace("&#39;", "'")


def test_a_second_run_with_nothing_changed_re_does_no_step_but_deploy(
    run: Run, first: "subprocess.CompletedProcess[str]"
) -> None:
    second = run("EPOCHS=3")
    assert second.returncode == 0, second.stdout + second.stderr
    assert executed(second.stdout) == ["deploy"]
    latest = run.home / "latest"  # type: ignore[attr-defined]
    assert "and taken over, unchanged, by the run of" in (latest / "train.html").read_text()


def test_other_epochs_re_do_training_and_what_follows(run: Run, first: "subprocess.CompletedProcess[str]") -> None:
    third = run("EPOCHS=1")
    assert third.returncode == 0, third.stdout + third.stderr
    assert executed(third.stdout) == [
        "choose_recipe", "tune_plan", "tune_select", "train", "evaluate", "gate", "deploy"
    ]  # fmt: skip


@pytest.mark.slow
def test_after_shards_were_removed_the_same_run_fetches_its_photos_again(
    run: Run, first: "subprocess.CompletedProcess[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    home = run.home  # type: ignore[attr-defined]
    with local_store(home / "store") as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        bucket = open_store("s3://bin-counter")
        shards = [entry.key for entry in bucket.list("shards/")]
        remove([Leftover(key, datetime.now(UTC), keys=[key]) for key in shards], bucket)
    monkeypatch.undo()
    again = run("EPOCHS=3")
    assert shards
    assert again.returncode == 0, again.stdout + again.stderr
    assert "download" in executed(again.stdout)


def test_a_failed_step_ends_the_run_with_its_sentence(run: Run, first: "subprocess.CompletedProcess[str]") -> None:
    failed = run("WEIGHTS=s3://bin-counter/nowhere.pth")
    assert failed.returncode == 1
    assert "nowhere.pth" in failed.stderr.splitlines()[-1]
    assert failed.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in failed.stdout + failed.stderr
    listed = list_runs(run.home)[0]  # type: ignore[attr-defined]
    assert listed.state == State.FAILED
    assert listed.record is not None
    assert f"error: {listed.record.reason}" == failed.stderr.splitlines()[-1]
