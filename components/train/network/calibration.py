"""From logits to probabilities that can be believed: what is fitted on validation, and how that was chosen.

All classes are calibrated together, on validation-block bins of every count, as a camera sends them. A bias for each
class mends that a head leans towards a count; it is fitted only where enough bins show that count, so that one which
validation happens to lack is not pushed away, and used only where cross-validation says that it helps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from components.train.network.model import Calibration

# By simulation with 7 classes: from here on, choosing by cross-validation costs 0.002 nats against a temperature alone
# where no class leans, and gains 0.01 to 0.13 where some do (the rule is tested in tests/train/test_calibration.py).
FEWEST_BINS = 60  # below, a temperature alone
FEWEST_OF_CLASS = 8  # below, a class has no bias of its own
_FOLDS = 5
_BIAS_PENALTY = 0.01  # by cross-validation on the real sample's validation bins
_TEMPERATURES = (0.05, 20.0)

Logits = NDArray[np.floating]
Labels = NDArray[np.int64]

KINDS = ("nothing", "a temperature", "a temperature and biases")


@dataclass(frozen=True)
class Calibrated:
    """A calibration, which kind of KINDS it is, and how it fared on bins that it was not fitted on.

    `losses` are the cross-validated means of -log of the true class's probability in nats, by kind; a kind that was not
    tried is missing. `held_out` N×classes are the probabilities of each bin by a calibration fitted on the others.
    """

    calibration: Calibration
    kind: str
    losses: Mapping[str, float]
    held_out: NDArray[np.float64]

    def __str__(self) -> str:
        """Which kind was chosen and why, as a sentence."""
        tried = ", ".join(f"{kind} {loss:.4f}" for kind, loss in self.losses.items())
        few = (
            f" Biases were not tried, because {len(self.held_out)} bins are too few."
            if KINDS[2] not in self.losses
            else ""
        )
        return f"Calibrated by {self.kind}; held-out loss by kind: {tried}.{few}"


def calibrate(logits: Logits, labels: Labels) -> Calibrated:
    """Choose and fit a calibration on N bins: logits N×classes, labels N from 0.

    Of two kinds the simpler is taken unless the other's loss is lower by more than its standard error (Breiman et al.,
    Classification and Regression Trees, 1984). Temperature: Guo et al. 2017; with biases: Alexandari et al. 2020.
    """
    number, classes = logits.shape
    kinds = KINDS if number >= FEWEST_BINS else KINDS[:2]
    nothing = Calibration(1.0, (0.0,) * classes)
    folds = _folds(number)
    held_out = {kind: np.empty((number, classes)) for kind in kinds}
    for fold in folds:
        others = np.setdiff1d(np.arange(number), fold)
        for kind in kinds:
            fitted = _fit(kind, logits[others], labels[others]) if len(others) else nothing
            held_out[kind][fold] = fitted.probabilities(logits[fold])
    losses = {
        kind: -np.log(np.maximum(probabilities[np.arange(number), labels], 1e-12))
        for kind, probabilities in held_out.items()
    }
    chosen = kinds[0]
    for kind in kinds[1:]:
        gain = losses[chosen] - losses[kind]
        if gain.mean() > (gain.std() / np.sqrt(number) if kind == KINDS[2] else 0):
            chosen = kind
    return Calibrated(
        _fit(chosen, logits, labels),
        chosen,
        {kind: float(loss.mean()) for kind, loss in losses.items()},
        held_out[chosen],
    )


def _folds(number: int) -> Sequence[NDArray[np.int64]]:
    """Every bin in one of a few parts, drawn by a fixed seed."""
    return np.array_split(np.random.default_rng(0).permutation(number), min(_FOLDS, number))


def _fit(kind: str, logits: Logits, labels: Labels) -> Calibration:
    classes = logits.shape[1]
    if kind == KINDS[0]:
        return Calibration(1.0, (0.0,) * classes)
    shown = np.bincount(labels, minlength=classes) >= FEWEST_OF_CLASS
    free = np.flatnonzero(shown) if kind == KINDS[2] and shown.sum() > 1 else np.array([], np.int64)
    places = np.arange(len(labels))

    def biases_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        biases = np.zeros(classes)
        # Their mean is 0: else all of them together could push a class away that has none.
        biases[free] = values - values.mean() if len(free) else 0.0
        return biases

    def loss(values: NDArray[np.float64]) -> float:
        scaled = logits * np.exp(-values[0]) + biases_of(values[1:])
        return float(-log_softmax(scaled, axis=1)[places, labels].mean() + _BIAS_PENALTY * (values[1:] ** 2).sum())

    bounds = [tuple(np.log(_TEMPERATURES)), *[(-2.0, 2.0)] * len(free)]
    found = minimize(loss, np.zeros(1 + len(free)), method="L-BFGS-B", bounds=bounds)
    return Calibration(float(np.exp(found.x[0])), tuple(float(bias) for bias in biases_of(found.x[1:])))
