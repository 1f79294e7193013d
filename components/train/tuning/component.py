"""KFP faces of tuning: which trials there are, one trial, and the choice among them."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def tune_plan(trials: int) -> list[int]:
    """Numbers of the trials, for the loop over them."""
    return list(range(trials))


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def tune_trial(
    shard_index: Input[Artifact],
    splits: Input[Dataset],
    recipe: str,
    epochs: int,
    image_size: int,
    backbone: str,
    weights: str,
    overrides: str,
    max_count: int,
    seed: int,
    data_uri: str,
    trial: int,
    trials: int,
    result: Output[Artifact],
) -> None:
    """Train once with the trial's own learning rate and batch size. A trial that fails says so in its result."""
    from pathlib import Path

    from components.core.errors import reported

    with reported():
        from components.core.recipe import choose_recipe
        from components.train.job import Job
        from components.train.loop.distributed import joined
        from components.train.tuning.study import run_trial

        chosen = choose_recipe(recipe, epochs, image_size, backbone, overrides)
        job = Job(Path(shard_index.path), Path(splits.path), chosen, max_count, seed, weights, data_uri, data_uri)
        with joined() as processes:
            Path(result.path).write_text(run_trial(job, trial, trials, processes).model_dump_json(indent=1))


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def tune_select(
    results: Input[list[Artifact]],
    overrides: str,
    report: Output[HTML],
) -> NamedTuple("Chosen", overrides=str, study=str):  # type: ignore[valid-type]
    """Choose the trial with the lowest validation loss: the overrides for the final training, and all trials."""
    from pathlib import Path
    from typing import NamedTuple

    from components.core.errors import reported

    with reported():
        from components.train.trials import write_trials
        from components.train.tuning.study import chosen_overrides, read_results, write_study

        found = read_results([Path(one.path) for one in results])
        write_study(found, Path(report.path))
        overrides, study = chosen_overrides(found, overrides), write_trials(found)
    return NamedTuple("Chosen", overrides=str, study=str)(overrides, study)  # type: ignore[operator]


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def tune_not(overrides: str) -> NamedTuple("Chosen", overrides=str, study=str):  # type: ignore[valid-type]
    """What stands in for a study where none is wanted: the overrides as given, and no trials."""
    from typing import NamedTuple

    return NamedTuple("Chosen", overrides=str, study=str)(overrides, "[]")  # type: ignore[operator]
