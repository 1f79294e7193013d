"""Sets of counts: they hold the truth as often as promised, have no gaps, and are a library's where it has any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

from components.core.count_sets import count_sets, mass_before, threshold

ROWS = st.lists(st.lists(st.floats(0.001, 1), min_size=6, max_size=6), min_size=1, max_size=20).map(
    lambda rows: np.array(rows) / np.sum(rows, axis=1, keepdims=True)
)


def drawn(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with one top each and truths drawn from them."""
    random = np.random.default_rng(seed)
    centre, width = random.uniform(-1, 6, (number, 1)), random.uniform(0.5, 2.5, (number, 1))
    powers = np.exp(-(((np.arange(6) - centre) / width) ** 2))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    truth = (probabilities.cumsum(axis=1) < random.random((number, 1))).sum(axis=1)
    return probabilities, truth


@given(probabilities=ROWS, most=st.floats(0, 1))
def test_a_set_holds_the_likeliest_and_what_lies_between_and_grows_with_what_it_may_hold(
    probabilities: np.ndarray, most: float
) -> None:
    sets = count_sets(probabilities, most)
    likeliest = probabilities.argmax(axis=1)
    assert (sets[:, 0] <= likeliest).all()
    assert (likeliest <= sets[:, 1]).all()
    larger = count_sets(probabilities, min(1.0, most + 0.2))
    assert (larger[:, 0] <= sets[:, 0]).all()
    assert (sets[:, 1] <= larger[:, 1]).all()
    assert (count_sets(probabilities, 1.0) == [0, 5]).all()


@given(probabilities=ROWS)
def test_a_set_begins_with_the_likeliest_class_and_all_is_in_it_at_last(probabilities: np.ndarray) -> None:
    masses = mass_before(probabilities)
    rows = np.arange(len(masses))
    assert (masses[rows, probabilities.argmax(axis=1)] == 0).all()
    assert masses.max(axis=1) == pytest.approx(1 - probabilities[rows, masses.argmax(axis=1)])


def test_of_two_neighbours_the_likelier_joins_and_a_likelier_class_further_off_waits() -> None:
    masses = mass_before(np.array([[0.3, 0.1, 0.4, 0.15, 0.05, 0.0]]))
    assert masses == pytest.approx(np.array([[0.65, 0.55, 0.0, 0.4, 0.95, 1.0]]))


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_sets_hold_the_truth_as_often_as_was_promised(level: float) -> None:
    most = threshold(*drawn(2000, 1), level)
    probabilities, truth = drawn(4000, 2)
    sets = count_sets(probabilities, most)
    held = ((sets[:, 0] <= truth) & (truth <= sets[:, 1])).mean()
    assert level - 0.02 < held < level + 0.06  # whole classes: a set may hold more than it must


def test_too_few_bins_promise_nothing_and_every_set_is_whole() -> None:
    assert threshold(*drawn(5, 1), 0.9) == 1


def test_with_one_top_thresholds_and_sets_are_those_of_mapie() -> None:
    probabilities, truth = drawn(500, 1)
    fresh, _ = drawn(300, 2)
    told = Told().fit(probabilities, truth)
    mapie = SplitConformalClassifier(told, confidence_level=0.9, conformity_score=NothingRandom(), prefit=True)
    mapie.conformalize(probabilities, truth, predict_params={})
    _, theirs = mapie.predict_set(fresh, conformity_score_params={"include_last_label": True})
    sets = count_sets(fresh, threshold(probabilities, truth, 0.9))
    places = np.arange(6)
    ours = (sets[:, :1] <= places) & (places <= sets[:, 1:])
    assert (ours == theirs[:, :, 0]).all()


class NothingRandom(APSConformityScore):
    """Their score with a random part that is always 1."""

    def get_conformity_scores(
        self,
        y: np.ndarray,
        y_pred: np.ndarray,
        y_enc: np.ndarray | None = None,
        **kwargs: object,
    ) -> np.ndarray:
        """The mass that each row's set holds before it grows to the truth."""
        assert y_enc is not None
        mass, self.cutoff = self.get_true_label_cumsum_proba(y, y_pred, self.classes)
        return np.asarray(mass - y_pred[np.arange(len(y_pred)), y_enc][:, None])


class Told(ClassifierMixin, BaseEstimator):
    """A classifier that says what it is given."""

    def fit(self, features: np.ndarray, truth: np.ndarray) -> "Told":
        """Nothing to learn."""
        self.classes_ = np.arange(features.shape[1])
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """The features themselves."""
        return features

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The likeliest."""
        return features.argmax(axis=1)
