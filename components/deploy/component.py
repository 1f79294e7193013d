"""KFP face of deploy."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def deploy(
    bundle: Input[Model],
    predictions: Input[Dataset],
    shard_index: Input[Artifact],
    verdict: Input[Artifact],
    run: str,
    models_uri: str,
    target: str,
    options: str,
    source: str,
    deployment: Output[Artifact],
) -> None:
    """Publish the model as a new version and put it into service, checked with test photos first."""
    from pathlib import Path

    from components.core.errors import reported
    from components.deploy.deploy import Inputs, deploy, open_target

    with reported():
        inputs = Inputs(Path(bundle.path), Path(predictions.path), Path(shard_index.path), Path(verdict.path))
        record = deploy(inputs, models_uri, open_target(target, options), run, source)
        Path(deployment.path).write_text(record.model_dump_json(indent=2) + "\n")
