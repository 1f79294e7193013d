"""The figures, against definitions written out by hand and against what must always hold."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core import intervals, metrics
from components.core.metrics import Evaluation, evaluate_counts


@st.composite
def judged(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """True counts and random probabilities of 2 to 7 counts."""
    bins, counts = draw(st.integers(1, 40)), draw(st.integers(2, 7))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return generator.integers(1, counts + 1, bins), generator.dirichlet(np.full(counts, 0.5), bins)


def test_figures_of_four_bins_are_those_worked_out_by_hand() -> None:
    truth = np.array([1, 2, 3, 3])
    scores = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.5, 0.2, 0.3]])
    figures = evaluate_counts(truth, scores)
    assert (figures.accuracy, figures.correct, figures.n_test) == (0.5, 2, 4)
    assert figures.loss == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.8) + math.log(0.3)) / 4)
    assert figures.mae == 0.75
    assert figures.rmse == pytest.approx(math.sqrt(5 / 4))
    expected = [1.4, 1.5, 2.7, 1.8]
    assert figures.mae_expected == pytest.approx(np.mean([0.4, 0.5, 0.3, 1.2]))
    assert figures.rmse_expected == pytest.approx(math.sqrt(np.mean((np.array(expected) - truth) ** 2)))
    assert figures.within_one == 0.75
    assert (figures.baseline_count, figures.baseline_accuracy) == (3, 0.5)
    assert figures.confusion == [[1, 0, 0], [1, 0, 0], [1, 0, 1]]
    assert figures.per_class["1"].precision == pytest.approx(1 / 3)
    assert (figures.per_class["2"].recall, figures.per_class["3"].recall, figures.per_class["3"].support) == (0, 0.5, 2)
    # Observed squared disagreement 5 over the 15/4 that chance gives with these margins (truth 1,1,2; said 3,0,1).
    assert figures.quadratic_kappa == pytest.approx(1 - 5 / ((3 * 0 + 1 * 4 + 3 * 1 + 1 * 1 + 2 * 3 * 4) / 4))


def test_the_line_of_the_original_has_its_form() -> None:
    figures = evaluate_counts(np.array([1, 2]), np.array([[0.8, 0.2], [0.8, 0.2]]))
    original = figures.model_copy(update={"loss": 1.49312, "correct": 291, "n_test": 1003, "accuracy": 291 / 1003})
    assert metrics.summary_line(original) == "Test set: Average loss: 1.4931, Accuracy: 291/1003 (29%)"


def test_calibration_error_is_the_gap_between_how_sure_and_how_often_right() -> None:
    scores = np.tile([0.8, 0.2], (10, 1))
    truth = np.array([1] * 6 + [2] * 4)
    assert metrics.calibration_error(truth, scores) == pytest.approx(0.2)


@pytest.mark.parametrize("bins", [60, 1300])
def test_perfectly_calibrated_probabilities_pass_for_such_19_times_in_20(bins: int) -> None:
    generator = np.random.default_rng(3)
    passed = []
    for trial in range(300):
        scores = generator.dirichlet(np.full(5, 0.7), bins)
        truth = (generator.random((bins, 1)) > scores.cumsum(axis=1)).sum(axis=1).clip(max=4) + 1
        passed.append(metrics.calibration_error(truth, scores) <= metrics.error_if_calibrated(scores, trial))
    assert 0.92 <= np.mean(passed) <= 0.98


def test_probabilities_that_are_too_sure_do_not_pass_for_calibrated() -> None:
    generator = np.random.default_rng(4)
    scores = generator.dirichlet(np.full(5, 0.7), 1300)
    truth = (generator.random((1300, 1)) > scores.cumsum(axis=1)).sum(axis=1).clip(max=4) + 1
    surer = scores**2 / (scores**2).sum(axis=1, keepdims=True)
    assert metrics.calibration_error(truth, surer) > metrics.error_if_calibrated(surer)


def test_a_probability_of_zero_for_the_truth_gives_a_large_but_finite_loss() -> None:
    assert 20 < evaluate_counts(np.array([2]), np.array([[1.0, 0.0]])).loss < 100


@given(judged())
@settings(max_examples=40, deadline=None)
def test_figures_keep_their_bounds_and_agree_with_each_other(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = pair
    figures = evaluate_counts(truth, scores)
    assert figures.accuracy <= figures.within_one
    assert figures.mae <= figures.rmse + 1e-9
    assert figures.accuracy_ci95[0] <= figures.accuracy <= figures.accuracy_ci95[1]
    assert -1 <= figures.quadratic_kappa <= 1
    assert sum(map(sum, figures.confusion)) == figures.n_test == len(truth)
    assert sum(row[place] for place, row in enumerate(figures.confusion)) == figures.correct
    assert Evaluation.model_validate_json(figures.model_dump_json()) == figures
    assert all(math.isfinite(value) for value in metrics.scalar_figures(figures).values())


@given(judged())
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_bins_does_not_matter(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = pair
    turned = evaluate_counts(truth[::-1], scores[::-1])
    figures = evaluate_counts(truth, scores)
    assert turned.confusion == figures.confusion
    assert turned.loss == pytest.approx(figures.loss)


@given(st.integers(1, 400).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
@settings(max_examples=50, deadline=None)
def test_the_interval_of_a_share_never_collapses_and_holds_the_share(pair: tuple[int, int]) -> None:
    right, of = pair
    low, high = intervals.proportion_interval(right, of)
    assert 0 <= low <= right / of <= high <= 1
    assert high - low > 1 / (of + 4)


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert intervals.proportion_interval(10, 10) == pytest.approx((0.722, 1), abs=1e-3)
    assert intervals.proportion_interval(0, 20) == pytest.approx((0, 0.161), abs=1e-3)


@pytest.mark.parametrize("share", [0.02, 0.4, 0.98])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(share: float) -> None:
    rights = np.random.default_rng(1).binomial(150, share, 1000)
    found = [intervals.proportion_interval(int(right), 150) for right in rights]
    covering = [low <= share <= high for low, high in found]
    assert 0.92 <= np.mean(covering) <= 0.99


@pytest.mark.parametrize("differing", [0.0, 0.02, 0.3])
def test_the_paired_interval_covers_the_truth_about_as_often_as_it_says(differing: float) -> None:
    generator = np.random.default_rng(2)
    covering = []
    for _ in range(1000):
        ours = generator.random(100) < 0.5
        theirs = ours ^ (generator.random(100) < differing)
        low, high = intervals.paired_interval(ours, theirs)
        covering.append(low <= 0 <= high)
        assert high - low > 0.01  # also where both always agreed
    assert np.mean(covering) >= 0.93


def test_pairing_sees_what_two_separate_intervals_would_hide() -> None:
    ours = np.arange(400) % 2 == 0
    theirs = ours.copy()
    theirs[:16] = True  # right wherever we are, and on eight bins more
    low, _ = intervals.paired_interval(theirs, ours)
    assert low > 0
    assert intervals.proportion_interval(int(ours.sum()), 400)[1] > theirs.mean()


def test_out_of_range_figures_need_bins_of_both_kinds() -> None:
    assert metrics.out_of_range_figures(np.array([False, False]), np.array([0.1, 0.9])) is None
    figures = metrics.out_of_range_figures(np.array([False, False, True, True]), np.array([0.1, 0.6, 0.4, 0.9]))
    assert figures is not None
    assert (figures.auc, figures.precision, figures.recall) == (0.75, 0.5, 0.5)


def test_metrics_json_has_the_names_that_others_rely_on() -> None:
    written = json.loads(evaluate_counts(np.array([1, 2]), np.array([[0.8, 0.2], [0.8, 0.2]])).model_dump_json())
    named = "accuracy accuracy_ci95 loss mae rmse within_one quadratic_kappa ece baseline_accuracy n_test per_class"
    assert {*named.split(), "confusion"} <= set(written)
