"""A training from what it is given to what is reported of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.core.bundle import Bundle
from components.core.metrics import OutOfRangeFigures
from components.core.recipe import Recipe
from components.train.data import PixelSource, TrainingData
from components.train.network.backbones import Backbone
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
    """A trained network and what its validation says."""

    prepared: Prepared
    outcome: Outcome
    served: Served
    calibration: Calibration
    logits: NDArray[np.float32]  # of the counts 1…max_count on validation, before the calibration
    ece_before: float
    ece_after: float


@dataclass(frozen=True)
class Result:
    """What is reported."""

    fitted: Fitted
    bundle: Bundle
    measured: list[Measured]
    out_of_range: OutOfRangeFigures | None  # on validation bins
    difference: float  # between ONNX and torch
    extra: ExtraComparison | None = None  # whether the extra bins helped, where that was asked
