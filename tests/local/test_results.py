"""The folder of results: photos to try the endpoint with, what was left out, and which runs are kept."""

from pathlib import Path

import pandas as pd

from components.core.layout import image_key
from components.core.records import Reject, write_rejects
from components.core.store import open_store
from pipeline.local_store import RunningStore
from pipeline.results import REPORTS, RUNS_KEPT, collect_rejects, copy_photos, remove_old_runs
from pipeline.source import PreparedSource


def test_one_test_photo_of_each_count_comes_along(tmp_path: Path, store_environment: RunningStore) -> None:
    bins = [("1044", 1, "test"), ("01044", 2, "test"), ("00003", 2, "test"), ("00004", 9, "extra")]
    predictions = pd.DataFrame(bins, columns=["image_id", "quantity", "subset"])
    predictions.to_parquet(tmp_path / REPORTS["predictions"])
    source = open_store("s3://bin-source/results")
    for image_id, _, _ in bins:
        source.put(image_key(image_id), f"photo of {image_id}".encode())
    places = copy_photos(tmp_path, PreparedSource("s3://bin-source/results", "snapshot"))
    assert [place.name for place in places] == ["1044.jpg", "01044.jpg"]
    assert [(tmp_path / place).read_text() for place in places] == ["photo of 1044", "photo of 01044"]


def a_home(folder: Path, names: list[str], latest: str) -> Path:
    for name in names:
        (folder / "runs" / name).mkdir(parents=True)
    (folder / "latest").symlink_to(Path("runs") / latest)
    return folder


def kept(home: Path) -> list[str]:
    remove_old_runs(home)
    return sorted(run.name for run in (home / "runs").iterdir())


def test_the_oldest_runs_are_removed(tmp_path: Path) -> None:
    names = [f"20240101-0000{number:02d}" for number in range(25)]
    assert kept(a_home(tmp_path, names, names[-1])) == names[-RUNS_KEPT:]


def test_a_clock_that_was_ahead_costs_no_newer_run(tmp_path: Path) -> None:
    ahead = [f"29990101-0000{number:02d}" for number in range(20)]
    true = [f"20240101-0000{number:02d}" for number in range(3)]
    left = kept(a_home(tmp_path, [*ahead, *true], true[-1]))
    assert set(true) <= set(left)
    assert len(left) == RUNS_KEPT


def test_what_latest_points_to_stays_whatever_its_name(tmp_path: Path) -> None:
    names = [f"20240101-0000{number:02d}" for number in range(30)]
    left = kept(a_home(tmp_path, names, names[0]))
    assert names[0] in left
    assert len(left) == RUNS_KEPT


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    names = [f"20240101-0000{number:02d}" for number in range(25)]
    home = a_home(tmp_path, [*names, "my notes", "20240101-000000.77.new"], names[-1])
    assert {"my notes", "20240101-000000.77.new"} <= set(kept(home))


def test_rejects_hold_what_every_step_left_out(tmp_path: Path) -> None:
    write_rejects(tmp_path / "ingest", [Reject("metadata/1.json", "not JSON", "line 1")])
    write_rejects(tmp_path / "download", [Reject("bin-images/00003.jpg", "missing", "there is no photo of this bin")])
    (tmp_path / "left_out.csv").write_text("image_id,reason\n00002,same contents as a bin of test\n")
    outputs = {"ingest_rejects": tmp_path / "ingest", "download_rejects": tmp_path / "download"}
    rejects = collect_rejects({**outputs, "split_lists": tmp_path})
    assert list(rejects["step"]) == ["ingest_metadata", "split", "download"]
    assert list(rejects["key"]) == ["metadata/1.json", "metadata/00002.json", "bin-images/00003.jpg"]
    assert not rejects.isna().any(axis=None)
