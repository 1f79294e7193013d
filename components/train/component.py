"""KFP face of train."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from components.core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def train(
    shard_index: Input[Artifact],
    splits: Input[Dataset],
    recipe: str,
    epochs: int,
    image_size: int,
    backbone: str,
    weights: str,
    overrides: str,
    study: str,
    max_count: int,
    seed: int,
    data_uri: str,
    bundle: Output[Model],
    report: Output[HTML],
    curves: Output[Artifact],
) -> None:
    """Train a model and write its bundle; 0 and "" leave a field to the recipe, `overrides` is JSON of fields."""
    from pathlib import Path

    from components.core.errors import reported

    with reported():
        from components.core.recipe import choose_recipe
        from components.train.job import Job, Outputs
        from components.train.loop.distributed import joined
        from components.train.train import train
        from components.train.trials import read_trials

        chosen = choose_recipe(recipe, epochs, image_size, backbone, overrides)
        trials = read_trials(study)
        paths = Path(shard_index.path), Path(splits.path)
        job = Job(*paths, chosen, max_count, seed, weights, data_uri, data_uri, study=trials)
        with joined() as processes:
            train(job, Outputs(Path(bundle.path), Path(report.path), Path(curves.path)), processes)
