"""What is handed round while a model is trained: what a run takes, how far it is, what was seen, what it ends with."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from components.core.intervals import Interval
from components.train.data import Source, Subset
from components.train.network.model import Normalise


class EpochRecord(BaseModel):
    """One epoch. Losses are means a sample; accuracies are shares of the bins with a count of 1…max_count."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    steps: int
    images: int
    image_size: int
    seconds: float
    train_loss: float  # the loss that is minimised
    train_accuracy: float
    validation_loss: float  # -log of the true count's probability among 1…max_count
    validation_accuracy: float
    learning_rate: float
    gradient_norm: float
    predicted: tuple[int, ...]  # how often each count was predicted on validation
    times: dict[str, float]  # seconds of each part
    compute_share: float  # share of the time in forward, backward and optimiser
    gpu_use: float | None = None


@dataclass(frozen=True)
class Finding:
    """A rule that was broken."""

    rule: str
    evidence: str
    advice: str
    stops: bool = False


@dataclass(frozen=True)
class Use:
    """What the machine did at one moment: shares of 1, bytes."""

    seconds: float
    cpu: float
    memory: int
    gpu: float | None
    gpu_memory: int | None


@dataclass(frozen=True)
class Inputs:
    """Where a run's samples come from: by the size of an epoch, for training and for validation."""

    training: Callable[[int], Source]
    validation: Source
    normalise: Normalise | None  # None: the inputs are features
    train: Subset
    judged: Subset


@dataclass
class Progress:
    """How far a run is, and what was seen on the way: all of it goes into the checkpoint."""

    epoch: int = 0  # epochs done
    batch: int = 0  # batches done in the running epoch
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])  # loss, samples, right, in range
    seconds: float = 0.0  # in the running epoch, before the last stop
    history: list[dict[str, Any]] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    first_layer: list[float] = field(default_factory=list)
    dead_units: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0
    done: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a run ends with; the model holds the weights to use."""

    history: list[EpochRecord]
    findings: list[Finding]
    step_losses: list[float]
    gradient_norms: list[float]
    stopped: str  # why the run ended before its last epoch, or ""
    kept: int  # the epoch whose weights the model holds
    use: list[Use]  # of the machine, about every second since the last start


@dataclass(frozen=True)
class Learned:
    """How one of the two trainings fared on the validation bins, calibrated."""

    training_bins: int
    epochs: int
    accuracy: float
    rmse: float  # in items
    loss: float  # in nats


@dataclass(frozen=True)
class ExtraComparison:
    """Both trainings, and the 95 % interval of the difference in accuracy (with minus without, same bins)."""

    with_extra: Learned
    without_extra: Learned
    difference: Interval

    def __str__(self) -> str:
        """The answer in a sentence."""
        low, high = self.difference
        verdict = "helped" if low > 0 else "did harm" if high < 0 else "made no difference that these bins could show"
        points = 100 * (self.with_extra.accuracy - self.without_extra.accuracy)
        return (
            f"The extra bins {verdict}: {points:+.1f} points of accuracy on the counts in range "
            f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f})."
        )
