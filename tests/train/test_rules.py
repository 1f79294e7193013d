"""Each rule at its threshold, on evidence made by hand; trainings that break them are in test_rules_on_runs.py."""

import math
from dataclasses import replace
from typing import Any

import pytest

from components.train.records import EpochRecord
from components.train.watch.rules import Evidence, check, names


def epoch(number: int, **changes: Any) -> EpochRecord:
    fields = {
        "epoch": number, "steps": 10, "images": 320, "image_size": 64, "seconds": 10.0,
        "train_loss": 1.6 - 0.1 * number,
        "train_accuracy": 0.3 + 0.02 * number, "validation_loss": 1.6 - 0.08 * number, "validation_accuracy": 0.3,
        "learning_rate": 0.001, "gradient_norm": 1.0, "predicted": (3, 4, 5, 4, 3),
        "times": {"read": 0.5, "forward": 3.0, "backward": 5.0, "optimiser": 0.5}, "compute_share": 0.85,
    }  # fmt: skip
    return EpochRecord(**(fields | changes))


HEALTHY = Evidence(
    class_counts=[50, 80, 90, 80, 60],
    classes=5,
    step_losses=[1.65 - 0.01 * step for step in range(40)],
    gradient_norms=[1 + 0.1 * math.sin(step) for step in range(40)],
    first_layer_gradients=[0.5, 0.4],
    dead_units=0.02,
    epochs=[epoch(number) for number in range(1, 5)],
)

BROKEN = {
    "nan": replace(HEALTHY, step_losses=[1.6, float("nan")]),
    "loss not decreasing": replace(HEALTHY, epochs=[epoch(n, train_loss=1.6) for n in range(1, 5)]),
    "overfitting": replace(
        HEALTHY, epochs=[epoch(n, train_accuracy=0.2 * n, validation_loss=1.2 + 0.1 * n) for n in range(1, 5)]
    ),
    "overtraining": replace(HEALTHY, epochs=[epoch(n, validation_loss=1.3 + 0.001 * n) for n in range(1, 7)]),
    "vanishing gradient": replace(HEALTHY, first_layer_gradients=[1e-9, 1e-8]),
    "exploding gradient": replace(HEALTHY, gradient_norms=[1.0] * 38 + [1e4, 2e4]),
    "dead units": replace(HEALTHY, dead_units=0.7),
    "saturated output": replace(HEALTHY, epochs=[epoch(n, predicted=(0, 0, 19, 0, 0)) for n in range(1, 4)]),
    "poor initial loss": replace(HEALTHY, step_losses=[9.0, 2.0]),
    "class imbalance": replace(HEALTHY, class_counts=[2, 80, 90, 80, 60]),
    "data loader starving the device": replace(
        HEALTHY, epochs=[epoch(n, times={"read": 6.0, "forward": 1.0, "backward": 2.0}) for n in range(1, 4)]
    ),
    "low device use": replace(HEALTHY, epochs=[epoch(n, compute_share=0.2) for n in range(1, 4)]),
}  # fmt: skip


def test_every_rule_has_a_run_that_breaks_it() -> None:
    assert set(BROKEN) == set(names())


def test_a_healthy_run_breaks_no_rule() -> None:
    assert check(HEALTHY) == []


@pytest.mark.parametrize("name", BROKEN)
def test_the_rule_fires_with_evidence_and_advice(name: str) -> None:
    findings = {finding.rule: finding for finding in check(BROKEN[name])}
    assert name in findings
    assert any(character.isdigit() for character in findings[name].evidence) or name == "nan"
    assert findings[name].advice.endswith(".")
    assert findings[name].stops == (name == "nan")


def test_low_use_of_a_gpu_has_its_own_measure() -> None:
    busy = replace(HEALTHY, on_gpu=True, epochs=[epoch(n, gpu_use=0.9, compute_share=0.1) for n in range(1, 4)])
    idle = replace(HEALTHY, on_gpu=True, epochs=[epoch(n, gpu_use=0.1) for n in range(1, 4)])
    assert check(busy) == []
    assert [finding.rule for finding in check(idle)] == ["low device use"]


def test_an_empty_class_is_told_apart_from_a_rare_one() -> None:
    empty = check(replace(HEALTHY, class_counts=[0, 80, 90]))[0]
    assert "never saw" in empty.advice
