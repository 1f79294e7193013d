"""The study in the DAG: trials in parallel, and the overrides that the final model is trained with."""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl

from components.train.tuning.component import tune_plan, tune_select, tune_trial

PARALLEL_TRIALS = 2
INPUTS = ("shard_index", "splits")


class Chosen(NamedTuple):
    """Channels of what the final training takes: its recipe, and the trials as JSON for its report."""

    recipe: Any
    study: Any


def choose_by_trials(
    tune: Any, trials: Any, training: dict[str, Any], place: Callable[[dsl.PipelineTask, str], None]
) -> Chosen:
    """The recipe that was given and no trials, or with `tune` the best trial's and all of them.

    `training` holds the arguments of `train`; `place` puts each task where it runs. Without `tune` the loop has one
    pass that trains nothing: a choice by `dsl.If` and `dsl.OneOf` fails on Kubeflow as soon as the cache answers for
    what is in the branch, and so does a loop without a pass.
    """
    shared = {name: value for name, value in training.items() if name not in (*INPUTS, "data_uri")}
    planned = tune_plan(tune=tune, trials=trials, **shared)
    place(planned, "tune_plan")
    with dsl.ParallelFor(planned.output, parallelism=PARALLEL_TRIALS, name="trials") as trial:
        inputs = {name: training[name] for name in (*INPUTS, "data_uri")}
        tried = tune_trial(trial=trial, **inputs)
        place(tried, "tune_trial")
    selected = tune_select(results=dsl.Collected(tried.outputs["result"]), recipe=training["recipe"])
    place(selected, "tune_select")
    return Chosen(*(selected.outputs[name] for name in Chosen._fields))
