"""How the comparison behaves over many retrainings: its operating curve, by simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray

from components.gate.compare import REFERENCES, Comparison, compare_answers

ACCURACY = 0.8
ALIKE = 0.7  # share of the bins on which two models agree as far as their accuracies allow; the others are luck
RETRAININGS = 25


def answers(generator: np.random.Generator, bins: int, accuracies: list[float]) -> list[NDArray[np.bool_]]:
    """Which bins models of these accuracies get right."""
    alike, luck = generator.random(bins) < ALIKE, generator.random(bins)
    return [np.where(alike, luck, generator.random(bins)) < accuracy for accuracy in accuracies]


def compared(generator: np.random.Generator, bins: int, ours: float, references: list[float]) -> Comparison:
    right, *others = answers(generator, bins, [ours, *references])
    return compare_answers(right, {str(place): other for place, other in enumerate(others)})


@pytest.mark.parametrize("bins", [130, 1300])
@pytest.mark.parametrize("references", [1, REFERENCES])
def test_an_equally_good_model_passes_four_times_in_five(bins: int, references: int) -> None:
    generator = np.random.default_rng(bins + references)
    passed = [not compared(generator, bins, ACCURACY, [ACCURACY] * references).inferior for _ in range(400)]
    assert np.mean(passed) >= 0.79  # 0.80 less what 400 draws leave open


def after_retrainings(generator: np.random.Generator, bins: int) -> float:
    """Points lost when each of many retrainings is one point worse than what serves."""
    served = [ACCURACY]
    for _ in range(RETRAININGS):
        if not compared(generator, bins, served[-1] - 0.01, served[-REFERENCES:]).inferior:
            served.append(served[-1] - 0.01)
    return 100 * (served[0] - served[-1])


def test_models_each_a_point_worse_than_the_one_before_do_not_get_far() -> None:
    generator = np.random.default_rng(0)
    lost = [after_retrainings(generator, 1300) for _ in range(12)]
    assert np.mean(lost) <= 3


def test_a_much_worse_model_is_refused() -> None:
    generator = np.random.default_rng(1)
    assert all(compared(generator, 1300, ACCURACY - 0.06, [ACCURACY]).inferior for _ in range(100))


def test_more_bins_make_the_margin_smaller() -> None:
    generator = np.random.default_rng(2)
    margins = [np.mean([compared(generator, bins, 0.8, [0.8]).margin for _ in range(20)]) for bins in (130, 520, 2080)]
    assert margins[0] / margins[1] == pytest.approx(2, rel=0.2)
    assert margins[1] / margins[2] == pytest.approx(2, rel=0.2)


def test_models_that_answer_alike_are_never_inferior() -> None:
    right = np.arange(200) % 3 == 0
    assert not compare_answers(right, {"one": right, "other": right}).inferior


def test_one_bin_decides_nothing() -> None:
    right = np.arange(200) % 3 == 0
    more = right | (np.arange(200) == 1)
    assert not compare_answers(right, {"champion": more}).inferior


def test_a_clearly_better_reference_is_found_among_others() -> None:
    ours = np.arange(400) % 4 == 0
    comparison = compare_answers(ours, {"same": ours, "better": ours | (np.arange(400) % 4 == 1)})
    assert (comparison.reference, comparison.inferior) == ("better", True)
    assert comparison.lead == pytest.approx(0.25)
