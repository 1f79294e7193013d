"""Calibration: it repairs what is wrong, leaves alone what is not, and pushes no count away."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from components.train.network.calibration import FEWEST_BINS, KINDS, calibrate

CLASSES = 7
Array = NDArray[Any]
NOTHING, TEMPERATURE, BIASES = KINDS


def drawn(bins: int, seed: int = 0) -> tuple[Array, Array]:
    """Logits whose softmax is right, and labels drawn from it."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (bins, CLASSES))
    return logits, (random.random((bins, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1).clip(max=CLASSES - 1)


def loss(probabilities: Array, labels: Array) -> float:
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def test_logits_that_are_too_sure_get_a_temperature() -> None:
    logits, labels = drawn(2000)
    calibrated = calibrate(3 * logits, labels)
    assert calibrated.kind == TEMPERATURE
    assert calibrated.calibration.temperature == pytest.approx(3, rel=0.1)
    assert set(calibrated.calibration.biases) == {0.0}


def test_logits_that_lean_to_one_class_get_biases() -> None:
    logits, labels = drawn(2000)
    calibrated = calibrate(logits + np.eye(CLASSES)[4], labels)
    biases = np.array(calibrated.calibration.biases)
    assert calibrated.kind == BIASES
    assert biases[4] - np.delete(biases, 4).mean() == pytest.approx(-1, abs=0.25)


def test_logits_that_are_right_get_no_biases() -> None:
    calibrated = calibrate(*drawn(2000))
    assert calibrated.kind != BIASES
    assert calibrated.calibration.temperature == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("bins", [75, 300, 2000])
def test_a_count_that_validation_lacks_is_not_pushed_away(bins: int) -> None:
    logits, labels = drawn(6000)
    chosen = np.flatnonzero(labels != 5)[:bins]
    calibrated = calibrate(logits[chosen] + 0.8 * np.eye(CLASSES)[1], labels[chosen])
    biases = np.array(calibrated.calibration.biases)
    assert biases[5] - np.delete(biases, 5).mean() == pytest.approx(0, abs=1e-6)
    said = calibrated.calibration.probabilities(logits).argmax(axis=1) == 5
    assert said.mean() > 0.8 * (softmax(logits, axis=1).argmax(axis=1) == 5).mean()


def test_few_bins_get_a_temperature_alone_and_that_is_said() -> None:
    logits, labels = drawn(FEWEST_BINS - 1)
    calibrated = calibrate(logits + 2 * np.eye(CLASSES)[4], labels)
    assert BIASES not in calibrated.losses
    assert "too few" in str(calibrated)
    assert "too few" not in str(calibrate(*drawn(FEWEST_BINS)))


@pytest.mark.parametrize(("lean", "least_gain"), [(0.0, -0.01), (0.6, 0.01), (1.0, 0.05)])
def test_with_about_a_hundred_bins_biases_help_where_classes_lean_and_cost_little_where_none_does(
    lean: float, least_gain: float
) -> None:
    gains = []
    for seed in range(10):
        leaning = np.random.default_rng(seed).normal(0, lean, CLASSES)
        logits, labels = drawn(96, seed)
        fresh, truth = drawn(4000, 1000 + seed)
        chosen = calibrate(1.2 * logits + leaning, labels).calibration
        alone = calibrate((1.2 * logits + leaning)[: FEWEST_BINS - 1], labels[: FEWEST_BINS - 1]).calibration
        gains.append(
            loss(alone.probabilities(1.2 * fresh + leaning), truth)
            - loss(chosen.probabilities(1.2 * fresh + leaning), truth)
        )
    assert np.mean(gains) > least_gain


@pytest.mark.parametrize("bins", [1, 30, 400])
def test_calibration_seldom_does_harm_to_bins_it_never_saw(bins: int) -> None:
    fresh, truth = drawn(4000, seed=99)
    harm = []
    for seed in range(4):
        calibration = calibrate(*drawn(bins, seed)).calibration
        harm.append(loss(calibration.probabilities(fresh), truth) - loss(softmax(fresh, axis=1), truth))
    assert np.median(harm) < (0.3 if bins < 10 else 0.01)


def test_held_out_probabilities_are_not_of_the_fit_itself() -> None:
    logits, labels = drawn(300)
    calibrated = calibrate(logits + np.eye(CLASSES)[4], labels)
    assert calibrated.held_out.sum(axis=1) == pytest.approx(1)
    fitted = calibrated.calibration.probabilities(logits + np.eye(CLASSES)[4])
    assert loss(fitted, labels) < loss(calibrated.held_out, labels)
