"""The learning curve of a source's bins: what more data would bring.

    python -m benchmarks.learning_curve --source ../shared/abid --recipe frozen

Brings the bins into the local store as `make pipeline` does, trains on 12, 25, 50 and 100 % of them, and leaves
learning-curve.html and learning-curve.json in .local/learning-curve.
"""

import argparse
import os
from pathlib import Path

import torch

from benchmarks.workbench import Bins
from components.core import defaults
from components.core.errors import reported
from components.core.layout import DATA_BUCKET
from components.core.recipe import choose_recipe
from components.download.download import DownloadOptions, download
from components.ingest_metadata.ingest import IngestOptions, ingest
from components.split.divide import SplitOptions
from components.split.split import split
from components.train.job import Job
from components.train.loop.distributed import Processes
from components.train.tuning.learning_curve import train_points, write_curve
from pipeline.local_store import local_store
from pipeline.source import check_source, prepare_source

HOME = Path(".local")
DATA_URI = f"s3://{DATA_BUCKET}"


def bring_in(source: str, folder: Path, seed: int) -> Bins:
    """Run ingest, split and download on a source, and return what train needs."""
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare_source(source, seed)
    records, rejects, page = folder / "records.parquet", folder / "rejects.parquet", folder / "page.html"
    ingest(
        IngestOptions(prepared.uri, DATA_URI, 0, defaults.MAX_COUNT, seed, prepared.snapshot), records, rejects, page
    )
    bins = Bins(folder / "index.json", folder / "splits.parquet")
    options = SplitOptions(defaults.MAX_COUNT, seed, defaults.VALIDATION_SHARE, defaults.TEST_SHARE)
    split(records, options, "", bins.splits, folder / "lists", page)
    download(DownloadOptions(prepared.uri, DATA_URI, 0.01), bins.splits, bins.index, rejects, page)
    return bins


def main() -> None:
    """Read the arguments, train on every share, write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning_curve", description=__doc__)
    parser.add_argument("--source", default="generated", help="generated, a folder, or s3://bucket")
    parser.add_argument("--recipe", default="frozen", help="finetune, best, frozen or original")
    parser.add_argument("--backbone", default="", help="default: the recipe's")
    parser.add_argument("--weights", default="", help="first weights, as for train")
    parser.add_argument("--image-size", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--overrides", default="{}", help="JSON of recipe fields")
    parser.add_argument("--seed", type=int, default=defaults.SEED)
    given = parser.parse_args()
    with reported():
        check_source(given.source)
        recipe = choose_recipe(given.recipe, given.epochs, given.image_size, given.backbone, given.overrides)
        home = HOME.resolve()
        with local_store(home / "store") as store:
            os.environ.update({**store.environment(), "BIN_COUNTER_CACHE": str(home / "cache")})
            bins = bring_in(given.source, home / "learning-curve", given.seed)
            job = Job(bins.index, bins.splits, recipe, defaults.MAX_COUNT, given.seed, given.weights)
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            write_curve(train_points(job, Processes(0, 1, device)), home / "learning-curve", recipe.name)


if __name__ == "__main__":
    main()
