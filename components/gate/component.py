"""KFP face of gate."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def gate(
    bundle: Input[Model],
    metrics: Input[Metrics],
    predictions: Input[Dataset],
    shard_index: Input[Artifact],
    champion: str,
    models_uri: str,
    margin: float,
    force: bool,
    verdict: Output[Artifact],
) -> str:
    """Decide whether the model may go into service; returns "deploy" or "keep"."""
    from pathlib import Path

    from components.core.errors import reported
    from components.gate.gate import Inputs, gate

    with reported():
        inputs = Inputs(Path(bundle.path), Path(metrics.path), Path(predictions.path), Path(shard_index.path))
        judged = gate(inputs, champion, models_uri, margin, force)
        judged.write(Path(verdict.path))
    return judged.decision
