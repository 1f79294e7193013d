"""The folder of results that a local run leaves, and the lines it ends with."""

import json
import os
import re
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from kfp import dsl

from components.core.layout import image_key, metadata_key
from components.core.source import Source
from components.core.spreadsheets import write_csv
from components.core.store import open_store
from components.core.verdict import Verdict
from pipeline.source import PreparedSource
from pipeline.source.photos import COLUMNS

REPORTS = {
    "report": "report.html",
    "metrics": "metrics.json",
    "ingest_report": "ingest.html",
    "split_report": "split.html",
    "train_report": "train.html",
    "curves": "curves.png",
    "verdict": "verdict.json",
    "predictions": "predictions.parquet",
}
REJECTS = {"ingest_rejects": "ingest_metadata", "download_rejects": "download"}
RUNS_KEPT = 20
_NAME = "%Y%m%d-%H%M%S"  # of a run's folder, in UTC
_RUN = re.compile(r"\d{8}-\d{6}(-\d+)?")


@dataclass(frozen=True)
class Results:
    """Where a run's results are, and what the end of the run tells about them."""

    folder: Path
    verdict: Verdict
    rejects: int
    photos: list[Path]


def collect_results(outputs: dict[str, object], home: Path, source: PreparedSource) -> Results:
    """Copy a run's outputs into a folder of their own and point `home`/latest to it when it is whole.

    A photo of a test bin for each count comes along from the source, to try the endpoint with.
    """
    folder = _new_folder(home / "runs")
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    fresh.mkdir(parents=True)
    for output, name in REPORTS.items():
        shutil.copyfile(_path(outputs[output]), fresh / name)
    shutil.copytree(_path(outputs["bundle"]), fresh / "model")
    rejects = collect_rejects({name: _path(outputs[name]) for name in (*REJECTS, "split_lists")})
    _write_table(fresh / "rejects.csv", with_names(rejects, source))
    if source.photos:
        _write_table(fresh / "bins.csv", table_of_bins(fresh, _path(outputs["split_lists"]), source))
    photos = copy_photos(fresh, source)
    fresh.rename(folder)
    _point_latest(home, folder)
    remove_old_runs(home)
    return Results(folder, Verdict.read(folder / "verdict.json"), len(rejects), photos)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    cells = table.astype(object).where(table.notna(), "")
    write_csv(path, list(table.columns), cells.itertuples(index=False, name=None))


def collect_rejects(outputs: Mapping[str, Path]) -> pd.DataFrame:
    """Everything that any step left out, in the order of the steps: key, reason, detail, step."""
    left_out = pd.read_csv(outputs["split_lists"] / "left_out.csv", dtype=str)
    tables = {REJECTS[name]: pd.read_parquet(outputs[name]) for name in REJECTS}
    tables["split"] = pd.DataFrame(
        {"key": left_out["image_id"].map(metadata_key), "reason": left_out["reason"], "detail": ""}
    )
    order = ("ingest_metadata", "split", "download")
    return pd.concat([tables[step].assign(step=step) for step in order], ignore_index=True)


def with_names(rejects: pd.DataFrame, source: PreparedSource) -> pd.DataFrame:
    """The same, with what was passed over while a folder was loaded, and what its owner calls each photo."""
    names = {photo.image_id: photo.file for photo in source.photos}
    told = rejects.assign(file=rejects["key"].map(lambda key: names.get(Path(key).stem, "")))
    loaded = [("", why, "", "load", name) for name, why in source.skipped.rows()]
    return pd.concat([pd.DataFrame(loaded, columns=told.columns, dtype=object), told], ignore_index=True)


def table_of_bins(folder: Path, lists: Path, source: PreparedSource) -> pd.DataFrame:
    """A row a photo of a folder: its own name, what its table says, the subset, and for test bins what the model says.

    `subset` is empty where it was left out, which rejects.csv tells why.
    """
    rows = [
        {"file": photo.file, "id": photo.image_id, "count": photo.row.count}
        | {name: getattr(photo.row, name) for name in COLUMNS}
        for photo in source.photos
    ]
    subsets = {
        Path(entry).stem: subset
        for subset in ("train", "validation", "test")
        for entries in json.loads((lists / f"{subset}.json").read_text()).values()
        for entry in entries
    }
    predictions = pd.read_parquet(folder / REPORTS["predictions"])
    said = predictions[["image_id", "subset", "count", "expected_count", "out_of_range"]]
    said = said.rename(columns={"image_id": "id", "count": "model_says", "subset": "judged_as"})
    bins = pd.DataFrame(rows).merge(said, on="id", how="left")
    bins["model_says"] = bins["model_says"].astype("Int64")
    subset = bins["id"].map(subsets).fillna(bins.pop("judged_as")).fillna("")
    bins.insert(3, "subset", subset)
    return bins


def remove_old_runs(home: Path) -> None:
    """Remove all but the last RUNS_KEPT runs; never what `latest` points to.

    A run that is named after a time to come was made while the clock was ahead, so it is older than it says and goes
    first. Other folders are not ours to remove.
    """
    now, latest = time.strftime(_NAME, time.gmtime()), (home / "latest").resolve()
    runs = [run for run in (home / "runs").iterdir() if _RUN.fullmatch(run.name) and run.resolve() != latest]
    for old in sorted(runs, key=lambda run: (run.name[: len(now)] <= now, run.name))[: -(RUNS_KEPT - 1)]:
        shutil.rmtree(old)


def _new_folder(runs: Path) -> Path:
    """A folder that is not there yet, named after the time; two runs may end in one second."""
    name = time.strftime(_NAME, time.gmtime())
    names = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    return next(runs / each for each in names if not (runs / each).exists())


def print_summary(results: Results, serving: str) -> None:
    """Print the figures, where the results are, and the next command; `serving` is the version now deployed."""
    figures = results.verdict.figures
    low, high = figures.accuracy_ci95
    print(f"\nAccuracy {figures.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}) on {figures.n_test} bins;")
    print(
        f"always the commonest count {figures.baseline_accuracy:.1%}; "
        f"within one {figures.within_one:.1%}; RMSE {figures.rmse:.2f}."
    )
    if results.verdict.passed:
        print(f"Deployed: version {serving}.")
    else:
        print(f"Not deployed: {results.verdict.reason}")
        print(f"Version {serving} stays in service." if serving else "No version is in service.")
    shown = _shown(results.folder.parent.parent / "latest")
    print(f"\nResults in {shown}: report.html, metrics.json, rejects.csv ({results.rejects} left out), model/, photos/")
    photo = shown / results.photos[0] if results.photos else "bin.jpg"
    # What the gate refused is served only where it is asked for.
    serve = "make serve" if serving else f"make serve MODEL={_quoted(shown / 'model')}"
    print(f"Next: `{serve}`, then in a second terminal `make predict IMAGE={_quoted(photo)}`.")


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))


def copy_photos(folder: Path, source: PreparedSource) -> list[Path]:
    """Write a test photo of each count into photos/, under its own name; returns their places inside `folder`."""
    predictions = pd.read_parquet(folder / REPORTS["predictions"])
    chosen = predictions[predictions["subset"] == "test"].groupby("quantity")["image_id"].first()
    store = open_store(Source.parse(source.uri).photo_bucket())
    names = {photo.image_id: photo.file for photo in source.photos}
    (folder / "photos").mkdir()
    own = {image_id: Path(names.get(image_id, f"{image_id}.jpg")).name for image_id in chosen}
    shared = {name for name, number in Counter(own.values()).items() if number > 1}  # in two sub-folders
    places = [Path("photos") / (f"{image_id}-{name}" if name in shared else name) for image_id, name in own.items()]
    for image_id, place in zip(chosen, places, strict=True):
        (folder / place).write_bytes(store.get(image_key(image_id)))
    return places


def _path(artifact: object) -> Path:
    assert isinstance(artifact, dsl.Artifact)
    return Path(artifact.path)


def _point_latest(home: Path, folder: Path) -> None:
    link = home / f"latest.{os.getpid()}.new"
    link.symlink_to(folder.relative_to(home))
    link.replace(home / "latest")


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
