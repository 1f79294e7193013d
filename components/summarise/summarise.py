"""What a run's end is summarised as, whatever happened."""

from dataclasses import dataclass

from components.core.errors import UserError
from components.core.registry import Figures, Registry


@dataclass(frozen=True)
class Ending:
    """How a run ended, as KFP reports it: SUCCEEDED, FAILED or CANCELLED."""

    state: str
    run: str
    message: str


def summarise(ending: Ending, models_uri: str) -> str:
    """Markdown of a few lines: how the run ended, and what is in service now. Never raises for a broken store."""
    lines = [f"# Run {ending.run.rsplit('/', 1)[-1]}: {ending.state.lower() or 'ended'}", ""]
    if ending.message:
        lines += [f"KFP says: {ending.message.strip()}", ""]
    if ending.state != "SUCCEEDED":
        lines += ["The failed step's log ends with one sentence that says what to do.", ""]
    return "\n".join([*lines, _service(models_uri), ""])


def _service(models_uri: str) -> str:
    try:
        current = Registry.open(models_uri).current()
    except UserError as error:
        return f"What is in service could not be read: {error}"
    if current is None:
        return "No model is in service."
    figures = f" ({_figures(current.figures)})" if current.figures else ""
    return f"In service: version `{current.version}`{figures}, since {current.deployed_at}."


def _figures(figures: Figures) -> str:
    low, high = figures.accuracy_ci95
    return (
        f"accuracy {figures.accuracy:.1%}, 95 % interval {low:.1%} to {high:.1%}, "
        f"within one {figures.within_one:.1%}, baseline {figures.baseline_accuracy:.1%}, {figures.n_test} test bins"
    )
