"""KFP face of summarise: the exit handler of a run on a cluster."""

from kfp import dsl
from kfp.dsl import Markdown, Output

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def summarise(run_id: str, models_uri: str, summary: Output[Markdown]) -> None:
    """Say how the run ended, and which version is in service now."""
    from pathlib import Path

    from components.core.runs_api import IN_CLUSTER_HOST, RunsApi
    from components.summarise.own_token import own_headers
    from components.summarise.summarise import summarise

    headers = own_headers()
    text = summarise(RunsApi(IN_CLUSTER_HOST, lambda: headers), run_id, models_uri)
    print(text)
    Path(summary.path).write_text(text)
