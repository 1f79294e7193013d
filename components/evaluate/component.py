"""KFP face of evaluate."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def evaluate(
    bundle: Input[Model],
    shard_index: Input[Artifact],
    splits: Input[Dataset],
    seed: int,
    metrics: Output[Metrics],
    classification: Output[ClassificationMetrics],
    predictions: Output[Dataset],
    report: Output[HTML],
) -> None:
    """Judge the model on bins it never saw, through the runtime and precision that will serve it."""
    from pathlib import Path

    from components.core.errors import reported
    from components.core.metrics import scalar_figures
    from components.evaluate.evaluate import Outputs, evaluate

    with reported():
        outputs = Outputs(Path(metrics.path), Path(predictions.path), Path(report.path))
        figures = evaluate(Path(bundle.path), Path(shard_index.path), Path(splits.path), seed, outputs)
        for name, value in scalar_figures(figures).items():
            metrics.log_metric(name, value)
        classification.log_confusion_matrix(list(figures.per_class), figures.confusion)
        # Also as a file: kfp.local's cache takes an output without one for lost, and would evaluate again.
        Path(classification.path).write_text(str(figures.confusion))
