"""KFP face of train_job: train, in the pods of a TrainJob."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def train_job(
    shard_index: Input[Artifact],
    splits: Input[Dataset],
    recipe: str,
    weights: str,
    study: str,
    max_count: int,
    seed: int,
    data_uri: str,
    image: str,
    nodes: int,
    accelerator_type: str,
    accelerator_count: str,
    node_selector: dict,
    tolerations: list,
    cpu: str,
    memory: str,
    shm_size: str,
    timeout: int,
    queue: str,
    bundle: Output[Model],
    report: Output[HTML],
    curves: Output[Artifact],
) -> None:
    """Train with the arguments of `train` on `nodes` nodes of the GPU pool, and bring back what the pods made."""
    from components.core.errors import reported
    from components.train_job.launch import launch_from_component

    with reported():
        launch_from_component(locals())
