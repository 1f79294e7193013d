"""KFP face of the step."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def split(
    records: Input[Dataset],
    max_count: int,
    seed: int,
    validation_share: float,
    test_share: float,
    file_lists: str,
    splits: Output[Dataset],
    lists: Output[Artifact],
    report: Output[HTML],
) -> None:
    """Divide the bins into train, validation, test and extra so that nothing leaks."""
    from pathlib import Path

    from components.core.errors import reported
    from components.split.divide import SplitOptions
    from components.split.split import split

    with reported():
        options = SplitOptions(max_count, seed, validation_share, test_share)
        split(Path(records.path), options, file_lists, Path(splits.path), Path(lists.path), Path(report.path))
