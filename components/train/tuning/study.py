"""Tuning: trials of learning rate and batch size, and the choice of the one with the lowest validation loss."""

import json
import math
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError
from scipy.stats import qmc

from components.core.errors import UserError
from components.core.recipe import Recipe
from components.core.report import Report
from components.train.job import Job
from components.train.loop.distributed import Processes
from components.train.train import fit, prepare
from components.train.trials import TrialResult, best_of
from components.train.watch.log import Log
from components.train.watch.page import draw_study

# The original's search space: learning rate log-uniform, batch size one of four.
LEARNING_RATES = (0.001, 0.1)
BATCH_SIZES = (32, 64, 128, 256)


def values_of(trial: int, trials: int, seed: int) -> TrialResult:
    """The values that a trial tries. By a Latin hypercube, so that few trials still cover the whole range."""
    if not 0 <= trial < trials:
        raise UserError(f"There is no trial {trial} among {trials}; they are numbered from 0.")
    rate, batch = qmc.LatinHypercube(2, rng=seed).random(trials)[trial]
    low, high = (math.log10(bound) for bound in LEARNING_RATES)
    # Four digits are enough, and people have to read and repeat them.
    learning_rate = float(f"{10 ** (low + rate * (high - low)):.4g}")
    return TrialResult(trial=trial, learning_rate=learning_rate, batch_size=BATCH_SIZES[int(batch * len(BATCH_SIZES))])


def run_trial(job: Job, trial: int, trials: int, processes: Processes) -> TrialResult:
    """Train with a trial's values. Whatever goes wrong is the trial's result, because it must not end the study."""
    values = values_of(trial, trials, job.seed)
    print(f"trial {trial + 1} of {trials}: learning rate {values.learning_rate}, batch {values.batch_size}", flush=True)
    start = time.monotonic()
    try:
        recipe = Recipe.model_validate(job.recipe.model_dump() | values.overrides | {"serving": "f32"})
        with Log(None) as log:
            fitted = fit(prepare(replace(job, recipe=recipe), processes), processes, log.epoch)
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        print(f"trial {trial + 1} failed: {error}", flush=True)
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return values.model_copy(update={"reason": reason, "seconds": time.monotonic() - start})
    last = fitted.outcome.history[-1]
    return values.model_copy(
        update={
            "loss": last.validation_loss,
            "accuracy": last.validation_accuracy,
            "seconds": time.monotonic() - start,
        }
    )


def read_results(paths: Sequence[Path]) -> list[TrialResult]:
    """Read trials' results back, in the order of their numbers. Raises UserError for a file that is none."""
    try:
        results = [TrialResult.model_validate_json(path.read_bytes()) for path in paths]
    except (OSError, ValidationError) as error:
        raise UserError(f"A trial's result cannot be read ({error}); run the trials again.") from error
    return sorted(results, key=lambda result: result.trial)


def chosen_overrides(results: Sequence[TrialResult], overrides: str) -> str:
    """The overrides that the final model is trained with: those given, and the best trial's values over them."""
    return json.dumps({**json.loads(overrides or "{}"), **best_of(results).overrides})


def write_study(results: Sequence[TrialResult], path: Path) -> None:
    """Write the trials' page."""
    report = Report("Tuning")
    draw_study(report, results)
    report.write(path)
