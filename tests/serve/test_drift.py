"""Drift: nothing in a year of an unchanged warehouse, an alert within a day when it fills up."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from components.core.drift import DriftBaseline
from components.serve.metrics import Drift

# Bins of the real sample with 0, 1 to 5, and more items.
USUAL = np.array([179, 768, 1440, 1725, 1519, 1168, 3201], float) / 10_000
FULLER = np.concatenate([USUAL[:-1] * (1 - USUAL[-1] * 4 / 3) / (1 - USUAL[-1]), USUAL[-1:] * 4 / 3])
MORE = 6

Array = NDArray[Any]


class Warehouse:
    """Bins by how many items they hold, and a model that sees them blurred and answers as well as it can."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.edges = np.linspace(-3, 9, 121)
        cells, place = self._seen(200_000, USUAL)
        table = np.full((len(self.edges) + 1, len(USUAL)), 0.01)
        np.add.at(table, (place, cells), 1)
        self.posterior = table / table.sum(axis=1, keepdims=True)

    def _seen(self, bins: int, shares: Array) -> tuple[Array, Array]:
        cells = self.generator.choice(len(shares), bins, p=shares / shares.sum())
        return cells, np.digitize(cells + self.generator.normal(0, 0.7, bins), self.edges)

    def answers(self, bins: int, shares: Array = USUAL) -> tuple[Array, Array]:
        """Scores bins×5 and the probability of being out of range, of photos as a camera sends them."""
        probability = self.posterior[self._seen(bins, shares)[1]]
        in_range = probability[:, 1:MORE]
        return in_range / in_range.sum(axis=1, keepdims=True), probability[:, 0] + probability[:, MORE]


def alerts(drift: Drift) -> bool:
    return max(drift.counts(), drift.out_of_range()) > 1


def feed(drift: Drift, scores: Array, out_of_range: Array) -> None:
    drift.add(zip((scores.argmax(axis=1) + 1).tolist(), out_of_range.tolist(), strict=True))


@pytest.fixture
def watched() -> Iterator[tuple[Warehouse, Drift]]:
    warehouse = Warehouse(0)
    drift = Drift("drift-test", "v", DriftBaseline.of(*warehouse.answers(1000)))
    yield warehouse, drift
    drift.close()


def test_an_unchanged_warehouse_raises_no_alert_in_50_weeks(watched: tuple[Warehouse, Drift]) -> None:
    warehouse, drift = watched
    for _ in range(50 * 7):
        feed(drift, *warehouse.answers(2000))
        assert not alerts(drift)


def test_a_third_more_full_bins_raise_one_within_a_day(watched: tuple[Warehouse, Drift]) -> None:
    warehouse, drift = watched
    feed(drift, *warehouse.answers(Drift.window))
    assert not alerts(drift)
    feed(drift, *warehouse.answers(Drift.window, FULLER))  # a day's photos
    assert alerts(drift)


def test_only_the_last_answers_count(watched: tuple[Warehouse, Drift]) -> None:
    warehouse, drift = watched
    feed(drift, *warehouse.answers(Drift.window, FULLER))
    feed(drift, *warehouse.answers(Drift.window))
    assert not alerts(drift)


def test_few_answers_prove_little() -> None:
    baseline = DriftBaseline.of(np.eye(5).repeat(200, axis=0), np.full(1000, 0.3))
    shifted = [3, 3, 3, 3, 8]
    assert baseline.counts_drift(shifted) < 1 < baseline.counts_drift([100 * n for n in shifted])


def test_before_the_first_answer_there_is_no_figure(watched: tuple[Warehouse, Drift]) -> None:
    assert math.isnan(watched[1].counts())
    assert math.isnan(watched[1].out_of_range())


def test_each_version_has_figures_of_its_own_and_takes_them_along_when_it_goes(
    watched: tuple[Warehouse, Drift],
) -> None:
    other = Drift("drift-test", "other", DriftBaseline(counts=(5, 5), counts_limit=15))
    other.add([(1, None), (2, None)])

    def shown(version: str, signal: str) -> float | None:
        labels = {"model": "drift-test", "version": version, "signal": signal}
        return REGISTRY.get_sample_value("bin_counter_drift", labels)

    assert shown("other", "counts") == pytest.approx(0)
    assert shown("other", "out_of_range") is None  # a model that knows no such bins
    assert math.isnan(shown("v", "counts") or 0)
    other.close()
    assert shown("other", "counts") is None
    assert shown("v", "counts") is not None
