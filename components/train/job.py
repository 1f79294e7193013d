"""A training from what it is given to what is reported of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from components.core.bundle import Bundle
from components.core.metrics import OutOfRangeFigures, log_losses, most_probable
from components.core.recipe import Recipe
from components.train.data import PixelSource, TrainingData
from components.train.network.backbones import Backbone
from components.train.network.calibration import Calibrated
from components.train.network.model import Calibration, Classes, Head, Served
from components.train.network.serving import Measured
from components.train.records import ExtraComparison, Inputs, Outcome
from components.train.trials import TrialResult


@dataclass(frozen=True)
class Job:
    """What to train: the shard index and splits (paths), the recipe, and where to keep checkpoints ("" for nowhere)."""

    shard_index: Path
    splits: Path
    recipe: Recipe
    max_count: int
    seed: int = 0
    weights: str = ""
    checkpoints: str = ""
    shared: str = ""  # bucket where features are shared with other trials; "" for none
    limit: int = 0  # train on so many bins only, drawn by seed; 0 is all
    checkpoint_interval: float = 60.0
    trace: Path | None = None  # where a torch.profiler trace of a few steps goes
    study: tuple[TrialResult, ...] = ()  # the trials that chose the recipe's values, for the report


@dataclass(frozen=True)
class Outputs:
    """Where the step writes: the bundle's folder, the report, the curves (PNG), and where asked for, not None,
    TensorBoard files and the history as JSON."""

    bundle: Path
    report: Path
    curves: Path
    logs: Path | None = None
    history: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """Everything a run of the loop needs."""

    job: Job
    data: TrainingData
    backbone: Backbone
    classes: Classes
    head: Head
    inputs: Inputs
    pixels: PixelSource  # the photos at the size that is served


@dataclass(frozen=True)
class Fitted:
    """A trained network and what validation says of the weights that it ended with.

    `logits` M×classes are those of the validation bins, and behind them of the extra bins of validation blocks where
    the network knows such.
    """

    prepared: Prepared
    outcome: Outcome
    served: Served
    calibrated: Calibrated
    logits: NDArray[np.float32]

    @property
    def calibration(self) -> Calibration:
        """What turns the logits into probabilities."""
        return self.calibrated.calibration

    @property
    def scores(self) -> NDArray[np.float64]:
        """Probabilities N×max_count of the counts in range for the validation bins."""
        return self._scores(self.calibration.probabilities(self.logits))

    @property
    def held_out_scores(self) -> NDArray[np.float64]:
        """The same by calibrations that were fitted without the bin."""
        return self._scores(self.calibrated.held_out)

    @property
    def raw_scores(self) -> NDArray[np.float64]:
        """The same before any calibration."""
        return self._scores(softmax(self.logits.astype(np.float64), axis=1))

    @property
    def validation_loss(self) -> float:
        """Mean of -log of the true count's probability among those in range, before calibration, in nats."""
        return float(log_losses(self.prepared.data.validation.quantities, self.raw_scores).mean())

    @property
    def validation_accuracy(self) -> float:
        """Share of the validation bins whose count is the most probable one, before calibration."""
        return float((most_probable(self.raw_scores) == self.prepared.data.validation.quantities).mean())

    @property
    def held_out_classes(self) -> NDArray[np.float64]:
        """Probabilities of all classes, empty and more among them, by calibrations that were fitted without the bin."""
        return self.calibrated.held_out

    def _scores(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        classes = self.prepared.classes
        first = 1 - classes.first
        counts = probabilities[: len(self.prepared.data.validation), first : first + classes.max_count]
        return counts / counts.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Result:
    """What is reported."""

    fitted: Fitted
    bundle: Bundle
    measured: list[Measured]
    out_of_range: OutOfRangeFigures | None  # on validation bins
    difference: float  # between ONNX and torch
    extra: ExtraComparison | None = None  # whether the extra bins helped, where that was asked
