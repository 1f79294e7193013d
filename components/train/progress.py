"""What a run of the loop takes, how far it is, and what it ends with."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from components.train.data import Source, Subset
from components.train.history import EpochRecord
from components.train.measure import Use
from components.train.model import Normalise
from components.train.rules import Finding


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
    use: list[Use]  # of the machine, about every second since the last start
