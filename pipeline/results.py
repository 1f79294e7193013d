"""The folder of results that a local run leaves, and the lines it ends with."""

import json
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from kfp import dsl

from components.core.files import folder_whole, write_whole
from components.core.layout import image_key, metadata_key
from components.core.report import Origin, with_origin
from components.core.source import Source
from components.core.spreadsheets import write_csv
from components.core.store import open_store
from components.core.verdict import Verdict
from pipeline.run_record import Run, RunRecord, State
from pipeline.runs import write_runs_page
from pipeline.runs_list import PAGES, RUNS_PAGE, shown_time
from pipeline.source import PreparedSource
from pipeline.source.photos import COLUMNS

REPORTS = {
    "report": "report.html",
    "metrics": "metrics.json",
    "ingest_report": "ingest.html",
    "split_report": "split.html",
    "download_report": "download.html",
    "train_report": "train.html",
    "curves": "curves.png",
    "verdict": "verdict.json",
    "predictions": "predictions.parquet",
}
REJECTS = {"ingest_rejects": "ingest_metadata", "download_rejects": "download"}


@dataclass(frozen=True)
class Results:
    """Where a run's results are, and what the end of the run tells about them."""

    folder: Path
    verdict: Verdict
    rejects: int
    photos: list[Path]


def collect_results(outputs: dict[str, object], home: Path, run: Run, source: PreparedSource) -> Results:
    """Copy a run's outputs into its folder, whole or not at all, and point `home`/latest to it.

    A photo of a test bin for each count comes along from the source, to try the endpoint with.
    """
    with folder_whole(run.folder) as fresh:
        for output, name in REPORTS.items():
            _copy(_path(outputs[output]), fresh / name, run.record)
        shutil.copytree(_path(outputs["bundle"]), fresh / "model")
        rejects = collect_rejects({name: _path(outputs[name]) for name in (*REJECTS, "split_lists")})
        _write_table(fresh / "rejects.csv", with_names(rejects, source))
        if source.photos:
            _write_table(fresh / "bins.csv", table_of_bins(fresh, _path(outputs["split_lists"]), source))
        photos = copy_photos(fresh, source)
        run.end(State.DONE, folder=fresh)
    _point_latest(home, run.folder)
    write_runs_page(home)
    return Results(run.folder, Verdict.read(run.folder / "verdict.json"), len(rejects), photos)


def _copy(output: Path, place: Path, record: RunRecord) -> None:
    """Copy a file; a page gets its run written into it, which the step that made it did not know."""
    if place.suffix != ".html":
        shutil.copyfile(output, place)
        return
    made = datetime.fromtimestamp(output.stat().st_mtime, UTC)
    when = f"Made {shown_time(made)}"
    if made < record.started:
        when += f" and taken over, unchanged, by the run of {shown_time(record.started)}"
    links = [(name, "" if page == place.name else page) for page, name in PAGES.items()]
    # Right from runs/<run>/ and from latest/, which a browser takes for a folder beside runs/.
    origin = Origin(when, record.command, record.data, [*links, ("All runs", f"../{RUNS_PAGE}")])
    write_whole(place, with_origin(output.read_text(), origin))


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
    print(f"Every run so far: {shown.with_name(RUNS_PAGE)}")
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
