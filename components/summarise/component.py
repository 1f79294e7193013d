"""KFP face of summarise: the exit handler of a run on a cluster."""

from kfp import dsl
from kfp.dsl import Markdown, Output, PipelineTaskFinalStatus

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def summarise(status: PipelineTaskFinalStatus, models_uri: str, summary: Output[Markdown]) -> None:
    """Say how the run ended, and which version is in service now."""
    from pathlib import Path

    from components.summarise.summarise import Ending, summarise

    ending = Ending(status.state, status.pipeline_job_resource_name, status.error_message or "")
    text = summarise(ending, models_uri)
    print(text)
    Path(summary.path).write_text(text)
