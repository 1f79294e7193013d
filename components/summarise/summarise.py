"""What a run's end is summarised as, whatever happened."""

from components.core.errors import UserError
from components.core.registry import Registry
from components.core.runs_api import RunsApi


def summarise(api: RunsApi, run_id: str, models_uri: str) -> str:
    """Markdown of a few lines: how the run ended, and what is in service now.

    KFP hands an exit handler a state of the run, but "running" also when the gate kept what serves, when its own driver
    failed and when someone cancelled, and never a reason. So its API is asked, which knows both. Never raises for an
    API or a store that is away.
    """
    return "\n".join([*_ending(api, run_id), "", _service(models_uri), ""])


def _ending(api: RunsApi, run_id: str) -> list[str]:
    try:
        ending = api.ending(run_id, api.run(run_id))
    except UserError as error:
        return [f"# Run {run_id}: ended", "", f"How it ended could not be read: {error}"]
    return [f"# Run {run_id}: {ending.outcome}", "", ending.told()]


def _service(models_uri: str) -> str:
    try:
        current = Registry.open(models_uri).current()
    except UserError as error:
        return f"What is in service could not be read: {error}"
    return f"In service: {current.told()}, since {current.deployed_at}." if current else "No model is in service."
