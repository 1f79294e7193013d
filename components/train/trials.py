"""The trials of a study: which there are, what they came to, and how a report shows it."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from components.core.errors import UserError
from components.core.recipe import read_recipe, with_fields
from components.core.report import SERIES, Report, new_axes
from components.core.validation import first_problem


class Trial(BaseModel):
    """One trial: its number from 0 among `trials`, and the arguments of `train` that all of them share.

    It names everything that it depends on, so that whoever caches a trial judges by this alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    trials: int
    recipe: str  # JSON of the whole one
    weights: str
    max_count: int
    seed: int


# Stands in for a trial where no study is wanted: a loop over nothing at all fails on Kubeflow.
NOTHING_TO_TRY = "none"


def plan_trials(tune: bool, first: Trial) -> list[str]:
    """The trials of a study as texts, one for each pass of a loop; without a study one that says so."""
    if not tune:
        return [NOTHING_TO_TRY]
    return [first.model_copy(update={"number": number}).model_dump_json() for number in range(first.trials)]


class TrialResult(BaseModel):
    """What a trial came to. `loss` (on validation) is None when it failed, and `reason` says why."""

    model_config = ConfigDict(frozen=True)

    trial: int
    learning_rate: float
    batch_size: int
    loss: float | None = None
    accuracy: float | None = None
    seconds: float = 0.0
    reason: str = ""

    @property
    def fields(self) -> dict[str, float | int]:
        """The fields of the recipe that this trial tried."""
        return {"learning_rate": self.learning_rate, "batch_size": self.batch_size}


def best_of(results: Sequence[TrialResult]) -> TrialResult:
    """The trial with the lowest validation loss, the first of equals. Raises UserError when every one failed."""
    good = [result for result in results if result.loss is not None]
    if not good:
        reason = results[0].reason if results else "there were none"
        raise UserError(f"All {len(results)} trials failed, the first because: {reason}")
    return min(good, key=lambda result: (result.loss, result.trial))


def read_results(paths: Sequence[Path]) -> list[TrialResult]:
    """Read trials' results back, in the order of their numbers; none where there was nothing to try.

    Raises UserError for a file that is no result.
    """
    try:
        texts = [path.read_text() for path in paths]
        results = [TrialResult.model_validate_json(text) for text in texts if text != NOTHING_TO_TRY]
    except (OSError, ValidationError) as error:
        raise UserError(f"A trial's result cannot be read ({error}); run the trials again.") from error
    return sorted(results, key=lambda result: result.trial)


def chosen_recipe(results: Sequence[TrialResult], recipe: str) -> str:
    """JSON of the recipe that the final model is trained with: the one given, with the best trial's values, if any."""
    if not results:
        return recipe
    return with_fields(read_recipe(recipe), best_of(results).fields).model_dump_json()


def write_study(results: Sequence[TrialResult], path: Path) -> None:
    """Write the trials' page."""
    report = Report("Tuning")
    if results:
        draw_study(report, results)
    else:
        report.text("No study was asked for: the model is trained with the recipe as given.")
    report.write(path)


def write_trials(results: Sequence[TrialResult]) -> str:
    """The trials as JSON, from one step to the next."""
    return _TRIALS.dump_json(list(results)).decode()


def read_trials(text: str) -> tuple[TrialResult, ...]:
    """Read what `write_trials` wrote; none from an empty text. Raises UserError for anything else."""
    try:
        return tuple(_TRIALS.validate_json(text or "[]"))
    except ValidationError as error:
        raise UserError(
            f"The study cannot be read ({first_problem(error).message}); give the JSON of its trials."
        ) from error


def draw_study(report: Report, results: Sequence[TrialResult]) -> None:
    """Add the table and the plot of the trials."""
    best = best_of(results)
    failed = sum(result.loss is None for result in results)
    report.text(
        f"{len(results)} trials, {failed} of them failed. The lowest validation loss, {best.loss:.4f}, came with "
        f"learning rate {best.learning_rate} and batch {best.batch_size}."
    )
    figure, axes = new_axes()
    batches = sorted({result.batch_size for result in results if result.loss is not None})
    for place, batch in enumerate(batches):
        shown = [result for result in results if result.batch_size == batch and result.loss is not None]
        rates, losses = zip(*((result.learning_rate, result.loss or 0.0) for result in shown), strict=True)
        axes.scatter(rates, losses, color=SERIES[place % len(SERIES)], label=f"batch {batch}", zorder=3)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("validation loss")
    axes.legend(frameon=False)
    report.figure(figure, "Validation loss by learning rate")
    columns = ["trial", "learning rate", "batch", "validation loss", "accuracy", "seconds", "what went wrong"]
    report.table(columns, [_row(result, result == best) for result in results], "Trials")


def _row(result: TrialResult, best: bool) -> list[str | int]:
    return [
        f"{result.trial + 1}" + (" (best)" if best else ""),
        f"{result.learning_rate:g}",
        result.batch_size,
        "failed" if result.loss is None else f"{result.loss:.4f}",
        "" if result.accuracy is None else f"{result.accuracy:.1%}",
        f"{result.seconds:.0f}",
        result.reason,
    ]


_TRIALS = TypeAdapter(list[TrialResult])
