"""The folder of results: photos to try the endpoint with, what was left out, and pages that know their run."""

import json
from pathlib import Path

import pandas as pd
import pytest

from components.core.layout import image_key
from components.core.records import Reject, write_rejects
from components.core.registry import Figures
from components.core.store import open_store
from components.core.tables import PhotoRow
from components.core.verdict import Verdict
from pipeline.local_store import RunningStore
from pipeline.results import (
    REPORTS,
    Results,
    collect_rejects,
    copy_photos,
    print_summary,
    table_of_bins,
    with_names,
)
from pipeline.source import PreparedSource
from pipeline.source.folder import Skipped
from pipeline.source.photos import CountedPhoto


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


def a_folder_of_photos(uri: str) -> PreparedSource:
    files = {"00001": "north/shelf.jpg", "00002": "south/shelf.jpg", "00003": "south/IMG 7.JPG"}
    photos = tuple(
        CountedPhoto(image_id, file, PhotoRow(number, file, number, "", site=file.partition("/")[0]))
        for number, (image_id, file) in enumerate(files.items(), 1)
    )
    skipped = Skipped()
    skipped.add("notes.txt", "no photo")
    return PreparedSource(uri, "snapshot", skipped, photos)


def test_photos_have_their_own_names_and_two_of_one_name_do_not_replace_each_other(
    tmp_path: Path, store_environment: RunningStore
) -> None:
    source = a_folder_of_photos("s3://bin-source/own-names")
    bins = [(photo.image_id, photo.row.count, "test") for photo in source.photos]
    pd.DataFrame(bins, columns=["image_id", "quantity", "subset"]).to_parquet(tmp_path / REPORTS["predictions"])
    for image_id, _, _ in bins:
        open_store(source.uri).put(image_key(image_id), f"photo of {image_id}".encode())
    places = copy_photos(tmp_path, source)
    assert [place.name for place in places] == ["00001-shelf.jpg", "00002-shelf.jpg", "IMG 7.JPG"]
    assert [(tmp_path / place).read_text()[-5:] for place in places] == ["00001", "00002", "00003"]


def test_rejects_and_bins_call_photos_by_their_own_names(tmp_path: Path) -> None:
    source = a_folder_of_photos("s3://bin-source/own-names")
    rejects = pd.DataFrame(
        [("bin-images/00003.jpg", "missing", "", "download")], columns=["key", "reason", "detail", "step"]
    )
    told = with_names(rejects, source)
    assert list(told["file"]) == ["notes.txt", "south/IMG 7.JPG"]
    assert list(told["step"]) == ["load", "download"]
    for subset, images in {"train": ["00001"], "validation": [], "test": ["00002"]}.items():
        (tmp_path / f"{subset}.json").write_text(json.dumps({"1": [f"{image}.jpg" for image in images]}))
    said = pd.DataFrame(
        [("00002", "test", 4, 3.9, 0.1)], columns=["image_id", "subset", "count", "expected_count", "out_of_range"]
    )
    said.to_parquet(tmp_path / REPORTS["predictions"])
    bins = table_of_bins(tmp_path, tmp_path, source).set_index("file")
    assert list(bins["subset"]) == ["train", "test", ""]
    assert list(bins["site"]) == ["north", "south", "south"]
    assert bins.loc["south/shelf.jpg", "model_says"] == 4
    assert bins["model_says"].isna().sum() == 2


@pytest.mark.parametrize(
    ("passed", "serving", "said"),
    [
        (True, "b" * 12, f"Deployed: version {'b' * 12}."),
        (False, "a" * 12, f"Version {'a' * 12} stays in service."),
        (False, "", "No version is in service."),
    ],
)
def test_the_last_lines_say_what_is_in_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], passed: bool, serving: str, said: str
) -> None:
    figures = Figures(
        accuracy=0.5, accuracy_ci95=(0.4, 0.6), baseline_accuracy=0.3, loss=1.2, rmse=1.1, within_one=0.8, n_test=200
    )
    verdict = Verdict(
        passed=passed, forced=False, reason="The gate's reason.", version="b" * 12, champion="", figures=figures
    )
    print_summary(Results(tmp_path / "runs" / "one", verdict, 3, [Path("photos/1.jpg")]), serving)
    lines = capsys.readouterr().out.splitlines()
    assert said in lines
    assert f"Every run so far: {tmp_path / 'runs.html'}" in lines
    assert ("Not deployed: The gate's reason." in lines) is not passed


def test_rejects_hold_what_every_step_left_out(tmp_path: Path) -> None:
    write_rejects(tmp_path / "ingest", [Reject("metadata/1.json", "not JSON", "line 1")])
    write_rejects(tmp_path / "download", [Reject("bin-images/00003.jpg", "missing", "there is no photo of this bin")])
    (tmp_path / "left_out.csv").write_text("image_id,reason\n00002,same contents as a bin of test\n")
    outputs = {"ingest_rejects": tmp_path / "ingest", "download_rejects": tmp_path / "download"}
    rejects = collect_rejects({**outputs, "split_lists": tmp_path})
    assert list(rejects["step"]) == ["ingest_metadata", "split", "download"]
    assert list(rejects["key"]) == ["metadata/1.json", "metadata/00002.json", "bin-images/00003.jpg"]
    assert not rejects.isna().any(axis=None)
