"""KFP face of the step."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Output

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def ingest_metadata(
    source: str,
    snapshot: str,
    limit: int,
    max_count: int,
    seed: int,
    data_uri: str,
    records: Output[Dataset],
    rejects: Output[Dataset],
    report: Output[HTML],
) -> None:
    """Read every bin's metadata into a records table, list what is left out, and draw the exploration.

    `snapshot` names the state of the source: the step is cached under it, and reads what changed when it is new.
    """
    from pathlib import Path

    from components.core.errors import reported
    from components.ingest_metadata.ingest import IngestOptions, ingest

    with reported():
        options = IngestOptions(source, data_uri, limit, max_count, seed, snapshot, recounts=data_uri)
        ingest(options, Path(records.path), Path(rejects.path), Path(report.path))
