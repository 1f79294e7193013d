"""Each rule on trainings: one that breaks it, and a sound one that breaks none."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.core.errors import UserError
from components.core.recipe import choose_recipe
from components.train.data import FeatureSource, Subset
from components.train.loop.checkpoint import Checkpoints
from components.train.loop.training import Training
from components.train.network.model import Classes
from components.train.records import Finding, Inputs
from components.train.watch.rules import names
from tests.train.conftest import ALONE

FEATURES, SAMPLES, COUNTS = 16, 320, 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads gain nothing on layers this small, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class SlowSource(FeatureSource):
    """A disk that takes its time."""

    def gather(self, rows: Any) -> Any:
        time.sleep(0.15)
        return super().gather(rows)


class SlowLayer(nn.Module):
    """A network that keeps its device busy."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            time.sleep(0.12)
        return features


class SlowCheckpoints(Checkpoints):
    """A bucket that takes its time."""

    def save(self, state: dict[str, Any]) -> bool:
        time.sleep(0.15)
        return super().save(state)


def network(*, width: int = 32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, COUNTS))


def evenly(number: int) -> np.ndarray:
    return 1 + np.arange(number) % COUNTS


def subset(rows: np.ndarray, labels: np.ndarray) -> Subset:
    return Subset([str(row) for row in rows], rows, labels, ())


@dataclass
class Run:
    """A training on made features, where one feature a count tells it."""

    model: nn.Module = field(default_factory=network)
    labels: np.ndarray = field(default_factory=lambda: evenly(SAMPLES))
    judged: np.ndarray = field(default_factory=lambda: evenly(100))
    recipe: dict = field(default_factory=dict)
    epochs: int = 4
    change: Callable[[np.ndarray], np.ndarray] = lambda features: features
    source: type[FeatureSource] = FeatureSource
    checkpoints: Checkpoints = field(default_factory=lambda: Checkpoints("", {}))

    def findings(self) -> dict[str, Finding]:
        told = np.concatenate([evenly(len(self.labels)), evenly(len(self.judged))])
        places = np.arange(len(told))
        features = np.random.default_rng(0).normal(0, 0.3, (len(told), FEATURES)).astype(np.float32)
        features[places, told] += 1
        train = subset(places[: len(self.labels)], self.labels)
        judged = subset(places[len(self.labels) :], self.judged)
        source = self.source(self.change(features), ALONE.device)
        inputs = Inputs(lambda _: source, FeatureSource(self.change(features), ALONE.device), None, train, judged)
        fields = {"optimiser": "adamw", "learning_rate": 0.003, "schedule": "constant", "batch_size": 32, "dropout": 0}
        recipe = choose_recipe("frozen", self.epochs).model_copy(
            update=fields | {"loss": "cross_entropy", "weight_decay": 0, "warmup_share": 0} | self.recipe
        )
        training = Training(recipe, self.model, Classes(COUNTS, False), inputs, 0, ALONE, self.checkpoints)
        return {finding.rule: finding for finding in training.run().findings}


def drawn(number: int, seed: int) -> np.ndarray:
    """Labels that have nothing to do with the features."""
    return np.random.default_rng(seed).integers(1, COUNTS + 1, number)


def biased(value: float) -> nn.Module:
    """A network that starts out all but sure that there are three items."""
    model = network()
    with torch.no_grad():
        output = model[2]
        assert isinstance(output, nn.Linear)
        output.bias[2] = value
    return model


def dead() -> nn.Module:
    """A network whose hidden units are below zero for whatever comes in."""
    model = network()
    with torch.no_grad():
        hidden = model[0]
        assert isinstance(hidden, nn.Linear)
        hidden.bias.fill_(-100)
    return model


def deep() -> nn.Module:
    """Twenty layers of sigmoids, each of which lets at most a quarter of the gradient through."""
    torch.manual_seed(0)
    inner = [layer for _ in range(20) for layer in (nn.Linear(FEATURES, FEATURES), nn.Sigmoid())]
    return nn.Sequential(*inner, nn.Linear(FEATURES, COUNTS))


def with_outliers(features: np.ndarray) -> np.ndarray:
    """Three of the samples a million times as large as they should be."""
    features = features.copy()
    features[:3] *= 1e6
    return features


BREAKING = {
    "loss not decreasing": lambda: Run(recipe={"learning_rate": 1e-12}),
    "overfitting": lambda: Run(network(width=256), drawn(SAMPLES, 1), drawn(100, 2), {"learning_rate": 0.01}, 25),
    "overtraining": lambda: Run(judged=drawn(100, 3), epochs=8),
    "vanishing gradient": lambda: Run(deep()),
    "exploding gradient": lambda: Run(recipe={"learning_rate": 1e-9}, change=with_outliers),
    "dead units": lambda: Run(dead()),
    "saturated output": lambda: Run(biased(10), recipe={"learning_rate": 1e-9}),
    "poor initial loss": lambda: Run(biased(20)),
    "class imbalance": lambda: Run(labels=np.where(np.arange(SAMPLES) < 4, 1, 2 + np.arange(SAMPLES) % 4)),
    "data loader starving the device": lambda: Run(source=SlowSource, epochs=1),
}


def test_every_rule_but_two_is_broken_by_a_run_of_this_table() -> None:
    assert set(names()) - set(BREAKING) == {"nan", "low device use"}  # these have tests of their own below


@pytest.mark.parametrize("rule", BREAKING)
def test_a_run_breaks_the_rule_and_is_told_why(rule: str) -> None:
    findings = BREAKING[rule]().findings()
    assert rule in findings
    assert findings[rule].evidence
    assert findings[rule].advice.endswith(".")


def test_nan_stops_the_run_with_its_name_and_advice() -> None:
    with pytest.raises(UserError, match=r"stopped by the rule 'nan': .* Lower learning_rate"):
        Run(change=lambda features: features * 1e38, recipe={"learning_rate": 100, "optimiser": "sgd"}).findings()


def test_a_device_that_waits_for_checkpoints_is_told(tmp_path: Path) -> None:
    findings = Run(checkpoints=SlowCheckpoints(str(tmp_path), {}, 0.0), epochs=1).findings()
    assert "low device use" in findings
    assert "data loader starving the device" not in findings


def test_a_sound_run_breaks_no_rule() -> None:
    assert Run(nn.Sequential(SlowLayer(), *network()), epochs=3).findings() == {}
