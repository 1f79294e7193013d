"""The study in the DAG: trials in parallel, and the overrides that the final model is trained with."""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl

from components.train.tuning.component import tune_not, tune_plan, tune_select, tune_trial

PARALLEL_TRIALS = 2


class Chosen(NamedTuple):
    """Channels of what the final training takes: its overrides, and the trials as JSON for its report."""

    overrides: Any
    study: Any


def choose_overrides(
    tune: Any, trials: Any, training: dict[str, Any], place: Callable[[dsl.PipelineTask, str], None]
) -> Chosen:
    """The overrides that were given and no trials, or with `tune` the best trial's and all of them.

    `training` holds the arguments of `train`; `place` puts each task where it runs.
    """
    overrides = training["overrides"]
    with dsl.If(tune == True, name="tune"):  # noqa: E712 - a KFP condition, not Python's
        planned = tune_plan(trials=trials)
        place(planned, "tune_plan")
        with dsl.ParallelFor(planned.output, parallelism=PARALLEL_TRIALS, name="trials") as trial:
            tried = tune_trial(trial=trial, trials=trials, **training)
            place(tried, "tune_trial")
        selected = tune_select(results=dsl.Collected(tried.outputs["result"]), overrides=overrides)
        place(selected, "tune_select")
    with dsl.Else(name="as-given"):
        kept = tune_not(overrides=overrides)
        place(kept, "tune_not")
    return Chosen(*(dsl.OneOf(selected.outputs[name], kept.outputs[name]) for name in Chosen._fields))
