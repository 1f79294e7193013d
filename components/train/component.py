"""KFP face of train."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from components.core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def train(
    shard_index: Input[Artifact],
    splits: Input[Dataset],
    recipe: str,
    weights: str,
    study: str,
    max_count: int,
    seed: int,
    data_uri: str,
    bundle: Output[Model],
    report: Output[HTML],
    curves: Output[Artifact],
) -> None:
    """Train a model and write its bundle; `recipe` is the whole one, as choose_recipe gives it."""
    from pathlib import Path

    from components.core.errors import reported

    with reported():
        from components.core.recipe import read_recipe
        from components.train.job import Job, Outputs
        from components.train.loop.distributed import joined
        from components.train.train import train
        from components.train.trials import read_trials

        paths, trials = (Path(shard_index.path), Path(splits.path)), read_trials(study)
        job = Job(*paths, read_recipe(recipe), max_count, seed, weights, data_uri, data_uri, study=trials)
        with joined() as processes:
            train(job, Outputs(Path(bundle.path), Path(report.path), Path(curves.path)), processes)
