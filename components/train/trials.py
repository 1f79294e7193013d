"""What the trials of a study came to, as tuning hands it to training."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from components.core.errors import UserError


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
    def overrides(self) -> dict[str, float | int]:
        """The fields of the recipe that this trial tried."""
        return {"learning_rate": self.learning_rate, "batch_size": self.batch_size}


def best_of(results: Sequence[TrialResult]) -> TrialResult:
    """The trial with the lowest validation loss, the first of equals. Raises UserError when every one failed."""
    good = [result for result in results if result.loss is not None]
    if not good:
        reason = results[0].reason if results else "there were none"
        raise UserError(f"All {len(results)} trials failed, the first because: {reason}")
    return min(good, key=lambda result: (result.loss, result.trial))


def write_trials(results: Sequence[TrialResult]) -> str:
    """The trials as JSON, from one step to the next."""
    return _TRIALS.dump_json(list(results)).decode()


def read_trials(text: str) -> tuple[TrialResult, ...]:
    """Read what `write_trials` wrote; none from an empty text. Raises UserError for anything else."""
    try:
        return tuple(_TRIALS.validate_json(text or "[]"))
    except ValidationError as error:
        raise UserError(
            f"The study cannot be read ({error.errors()[0]['msg']}); give the JSON of its trials."
        ) from error


_TRIALS = TypeAdapter(list[TrialResult])
