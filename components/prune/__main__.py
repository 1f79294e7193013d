"""Tell what nothing refers to any more, and remove it when asked to: `make prune`, and a CronJob in manifests/store."""

import argparse
import os
from pathlib import Path

from components.core.errors import UserError, reported
from components.core.layout import DATA_BUCKET, MODELS_BUCKET

DAYS = 30
MOST_RUNS = 1_000_000
MOST_DAYS = 36_500  # what a clock can count back to
REMOVE_VARIABLE = "PRUNE_REMOVE"


def main() -> None:
    """Read the arguments, list what can go, and remove it where that was said."""
    parser = argparse.ArgumentParser(prog="python -m components.prune", description=__doc__)
    parser.add_argument("--data-uri", default=f"s3://{DATA_BUCKET}", help="bucket of shards and of half-done work")
    parser.add_argument(
        "--models-uri", default=f"s3://{MODELS_BUCKET}", help="bucket of the versions, whose shards are kept"
    )
    parser.add_argument("--days", default=str(DAYS), help=f"keep what was used in so many days ({DAYS})")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="also what is old in this folder")
    parser.add_argument("--home", type=Path, help="folder of a laptop's runs, for --runs")
    parser.add_argument("--runs", default="", help="also the results of all but the newest so many runs")
    parser.add_argument(
        "--remove",
        nargs="?",
        const="1",
        default=os.environ.get(REMOVE_VARIABLE, ""),
        help=f"1: remove it, not only tell; also by {REMOVE_VARIABLE}=1",
    )
    arguments = parser.parse_args()
    with reported():
        from components.core.registry import Registry
        from components.core.store import open_store
        from components.core.validation import number
        from components.prune.prune import FEWEST_DAYS, find_folders, find_leftovers, find_runs, remove

        days = number("DAYS", arguments.days, FEWEST_DAYS, MOST_DAYS)
        runs = int(number("RUNS", arguments.runs, 1, MOST_RUNS, whole=True)) if arguments.runs != "" else 0
        if runs and arguments.home is None:
            raise UserError("RUNS is for the results on this machine; leave it out for another store.")
        if arguments.remove not in ("", "0", "1"):
            raise UserError(f"REMOVE={arguments.remove} cannot be used: it should be 0 or 1.")
        store = open_store(arguments.data_uri)
        found = find_leftovers(store, Registry.open(arguments.models_uri), days)
        found += find_folders(arguments.folder, days)
        old_runs = find_runs(arguments.home, runs) if runs else []
        found += old_runs
        for each in found:
            print(each)
        size = sum(each.size for each in found) / 1e9
        total = f"{len(found):,} things, {size:.2f} GB, not used for {days:g} days"
        if old_runs:
            total += f" or results older than those of the newest {runs} runs"
        if not found:
            print(f"Nothing to remove: all is of a version, or was used in the last {days:g} days.")
        elif arguments.remove == "1":
            remove(found, store)
            print(f"Removed: {total}.")
        else:
            print(f"Would be removed: {total}. Nothing was removed; `make prune REMOVE=1` does it.")


if __name__ == "__main__":
    main()
