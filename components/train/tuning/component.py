"""KFP faces of tuning: which trials there are, one trial, and the choice among them."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def tune_plan(
    tune: bool,
    trials: int,
    recipe: str,
    weights: str,
    max_count: int,
    seed: int,
) -> list[str]:
    """The trials for the loop over them, each with all that decides it; without a study one that trains nothing."""
    from components.core.errors import reported

    with reported():
        from components.train.trials import Trial, plan_trials

        first = Trial(number=0, trials=trials, recipe=recipe, weights=weights, max_count=max_count, seed=seed)
        return plan_trials(tune, first)


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def tune_trial(
    shard_index: Input[Artifact],
    splits: Input[Dataset],
    trial: str,
    data_uri: str,
    result: Output[Artifact],
) -> None:
    """Train once with the trial's own learning rate and batch size. A trial that fails says so in its result."""
    from pathlib import Path

    from components.core.errors import reported
    from components.train.trials import NOTHING_TO_TRY, Trial

    with reported():
        if trial == NOTHING_TO_TRY:
            Path(result.path).write_text(NOTHING_TO_TRY)
            return
        from components.core.recipe import read_recipe
        from components.train.job import Job
        from components.train.loop.distributed import joined
        from components.train.tuning.study import run_trial

        given = Trial.model_validate_json(trial)
        chosen = read_recipe(given.recipe)
        paths = Path(shard_index.path), Path(splits.path)
        job = Job(*paths, chosen, given.max_count, given.seed, given.weights, data_uri, data_uri)
        with joined() as processes:
            found = run_trial(job, given.number, given.trials, processes)
        Path(result.path).write_text(found.model_dump_json(indent=1))


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def tune_select(
    results: Input[list[Artifact]],
    recipe: str,
    report: Output[HTML],
) -> NamedTuple("Chosen", recipe=str, study=str):  # type: ignore[valid-type]
    """Choose the trial with the lowest validation loss: the recipe of the final training, and all trials."""
    from pathlib import Path
    from typing import NamedTuple

    from components.core.errors import reported

    with reported():
        from components.train.trials import chosen_recipe, read_results, write_study, write_trials

        found = read_results([Path(one.path) for one in results])
        write_study(found, Path(report.path))
        recipe, study = chosen_recipe(found, recipe), write_trials(found)
    return NamedTuple("Chosen", recipe=str, study=str)(recipe, study)  # type: ignore[operator]
