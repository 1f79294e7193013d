"""The folder of results that a local run leaves, and the lines it ends with."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from kfp import dsl

from components.core.layout import image_key
from components.core.store import open_store
from components.core.verdict import Verdict

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


@dataclass(frozen=True)
class Results:
    """Where a run's results are, and what the end of the run tells about them."""

    folder: Path
    verdict: Verdict
    rejects: int
    photos: list[Path]


def collect_results(outputs: dict[str, object], home: Path, source: str) -> Results:
    """Copy a run's outputs into a folder of their own and point `home`/latest to it when it is whole.

    `source` is the address of the bins; a photo of a test bin for each count comes along, to try the endpoint with.
    """
    folder = home / "runs" / time.strftime("%Y%m%d-%H%M%S")
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    fresh.mkdir(parents=True)
    for output, name in REPORTS.items():
        shutil.copyfile(_path(outputs[output]), fresh / name)
    shutil.copytree(_path(outputs["bundle"]), fresh / "model")
    rejects = pd.concat([pd.read_parquet(_path(outputs[output])).assign(step=step) for output, step in REJECTS.items()])
    rejects.to_csv(fresh / "rejects.csv", index=False)
    photos = copy_photos(fresh, source)
    fresh.rename(folder)
    _point_latest(home, folder)
    for old in sorted((home / "runs").iterdir())[:-RUNS_KEPT]:
        shutil.rmtree(old)
    return Results(folder, Verdict.read(folder / "verdict.json"), len(rejects), photos)


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
    shown = _shown(results.folder.parent.parent / "latest")
    print(f"\nResults in {shown}: report.html, metrics.json, rejects.csv ({results.rejects} rejected), model/, photos/")
    photo = shown / results.photos[0] if results.photos else "bin.jpg"
    print(f"Next: `make serve`, then in a second terminal `make predict IMAGE={photo}`.")


def copy_photos(folder: Path, source: str) -> list[Path]:
    """Write a test photo of each count as photos/<image_id>.jpg; returns their places inside `folder`."""
    predictions = pd.read_parquet(folder / REPORTS["predictions"])
    chosen = predictions[predictions["subset"] == "test"].groupby("quantity")["image_id"].first()
    store = open_store(source)
    (folder / "photos").mkdir()
    places = [Path("photos") / f"{image_id}.jpg" for image_id in chosen]
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
