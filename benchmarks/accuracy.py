"""Accuracy on real photos over several seeds: each seed is another split and another training. `make bench-accuracy`.

    python -m benchmarks.accuracy --seeds 1 2                       the default recipe, 30 minutes a seed on 2 cores
    python -m benchmarks.accuracy --recipe frozen --seeds 0 1 2     the head alone, 2 minutes a seed
    python -m benchmarks.accuracy --name "no extra bins" --overrides '{"use_extra": false}' --seeds 1

Runs `make pipeline` on the source once a seed and adds rows to results/seeds.json and results/seeds.md; a row that is
measured again is replaced.
"""

import argparse
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from statistics import mean, stdev

from pydantic import BaseModel

from benchmarks.machine import machine
from benchmarks.tables import RESULTS, markdown_table, write_results
from components.core.bundle import read_bundle
from components.core.errors import reported
from components.core.metrics import Evaluation
from components.core.validation import number
from pipeline.local_store import HOME

ROOT = Path(__file__).parent.parent
SAMPLE = "../shared/abid"
GOAL_ACCURACY, GOAL_RMSE = 0.40, 1.12
COLUMNS = (
    "",
    "training bins:",
    "validation accuracy:",
    "validation loss:",
    "test accuracy (95 % interval)",
    "always 3:",
    "RMSE:",
    "within one:",
    "loss:",
    "ECE:",
    "out of range: AUC:",
    "day",
    "trained on",
)


class Row(BaseModel):
    """One run: what was trained with which seed, where and when, and its figures on validation and test."""

    name: str
    seed: int
    command: str
    machine: str
    day: str
    training_images: int
    validation_accuracy: float
    validation_loss: float
    test: Evaluation


def run(name: str, assignments: list[str], seed: int, home: Path) -> Row:
    """Run the pipeline as a user would. Raises SystemExit when it fails."""
    arguments = [*assignments, f"SEED={seed}"]
    subprocess.run(
        [sys.executable, "-m", "pipeline", "run", *arguments],
        cwd=ROOT,
        env={**os.environ, "BIN_COUNTER_HOME": str(home)},
        check=True,
    )
    info = read_bundle(home / "latest" / "model").info
    return Row(
        name=name,
        seed=seed,
        command=" ".join(["make pipeline", *arguments]),
        machine=machine(),
        day=date.today().isoformat(),
        training_images=info.training_images,
        validation_accuracy=info.metrics["validation_accuracy"],
        validation_loss=info.metrics["validation_loss"],
        test=Evaluation.model_validate_json((home / "latest" / "metrics.json").read_text()),
    )


def table(rows: list[Row]) -> list[str]:
    """The results for people, in Markdown."""
    lines = [
        "# Accuracy on real photos, by seed",
        "",
        "`make bench-accuracy`. Each seed is another split and another training, and each",
        "row looked at its test subset once, at the end; rows of one seed share it. Where the last column says so, the",
        "train step's own functions were called on another machine, and no whole pipeline ran: not by this command.",
        "Loss on validation is before calibration.",
        "",
        *markdown_table(COLUMNS, [_cells(row) for row in rows]),
        "",
    ]
    for name in dict.fromkeys(row.name for row in rows):
        group = [row.test for row in rows if row.name == name]
        if len(group) > 1:
            accuracies, errors = [test.accuracy for test in group], [test.rmse for test in group]
            lines.append(
                f"{name}, mean of {len(group)} seeds: {mean(accuracies):.1%} (standard deviation "
                f"{100 * stdev(accuracies):.1f} points), RMSE {mean(errors):.3f}."
            )
    lines.append(f"Goal of `finetune`: {GOAL_ACCURACY:.0%} and RMSE {GOAL_RMSE}.")
    return lines


def _cells(row: Row) -> list[str]:
    test = row.test
    low, high = test.accuracy_ci95
    return [
        f"{row.name}, seed {row.seed}",
        f"{row.training_images:,}",
        f"{row.validation_accuracy:.1%}",
        f"{row.validation_loss:.3f}",
        f"{test.accuracy:.1%} ({100 * low:.1f} to {100 * high:.1f}), {test.n_test:,} bins",
        f"{test.baseline_accuracy:.1%}",
        f"{test.rmse:.3f}",
        f"{test.within_one:.1%}",
        f"{test.loss:.3f}",
        f"{test.ece:.3f}",
        "" if test.out_of_range is None else f"{test.out_of_range.auc:.3f}",
        row.day,
        row.machine,
    ]


def main() -> None:
    """Run the seeds, writing the table after each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default=SAMPLE, help="a folder of real bins")
    parser.add_argument("--recipe", default="finetune")
    parser.add_argument("--overrides", default="{}", help="JSON of recipe fields")
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
    parser.add_argument("--name", default="", help="of the rows; default: the recipe's")
    parser.add_argument("--home", type=Path, default=HOME / "accuracy", help="where the runs keep their state")
    given = parser.parse_args()
    with reported():
        seeds = [int(number("SEEDS", seed, 0, 2**31 - 1, whole=True)) for seed in given.seeds]
    assignments = [f"SOURCE={given.source}", f"RECIPE={given.recipe}", f"OVERRIDES={given.overrides}"]
    assignments += [f"EPOCHS={given.epochs}"]
    path = RESULTS / "seeds.json"
    rows = [Row.model_validate(row) for row in json.loads(path.read_text())] if path.exists() else []
    for seed in seeds:
        row = run(given.name or f"`{given.recipe}`", assignments, seed, given.home.resolve())
        rows = [old for old in rows if (old.name, old.seed) != (row.name, row.seed)] + [row]
        rows.sort(key=lambda one: (one.name, one.seed))
        write_results("seeds", [one.model_dump(mode="json") for one in rows], table(rows))


if __name__ == "__main__":
    main()
