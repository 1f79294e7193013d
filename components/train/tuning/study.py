"""Tuning: trials of learning rate and batch size."""

import math
import time
import traceback
from dataclasses import replace

from scipy.stats import qmc

from components.core.errors import UserError
from components.core.recipe import with_fields
from components.train.job import Job
from components.train.loop.distributed import Processes
from components.train.train import fit, prepare
from components.train.trials import TrialResult
from components.train.watch.log import Log

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
        recipe = with_fields(job.recipe, {**values.fields, "serving": "f32"})
        with Log(None) as log:
            fitted = fit(prepare(replace(job, recipe=recipe), processes), processes, log.epoch)
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        print(f"trial {trial + 1} failed: {error}", flush=True)
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return values.model_copy(update={"reason": reason, "seconds": time.monotonic() - start})
    return values.model_copy(
        update={
            "loss": fitted.validation_loss,
            "accuracy": fitted.validation_accuracy,
            "seconds": time.monotonic() - start,
        }
    )
