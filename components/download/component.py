"""KFP face of the step."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def download(
    source: str,
    splits: Input[Dataset],
    data_uri: str,
    max_reject_share: float,
    pruned: str,  # noqa: ARG001 - a part of the cache key, nothing else
    shard_index: Output[Artifact],
    rejects: Output[Dataset],
    report: Output[HTML],
) -> None:
    """Fetch and check the photos of all bins of the split and pack them into shards in our bucket.

    `pruned` changes when shards were removed: a result from before, which may name them, is not taken from the cache.
    """
    from pathlib import Path

    from components.core.errors import reported
    from components.download.download import DownloadOptions, download

    with reported():
        options = DownloadOptions(source, data_uri, max_reject_share)
        download(options, Path(splits.path), Path(shard_index.path), Path(rejects.path), Path(report.path))
