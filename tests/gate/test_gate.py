"""The gate: its rule on its own, and the step with a real model in service."""

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import UserError
from components.core.metrics import Evaluation, evaluate_counts
from components.core.registry import Registry
from components.core.verdict import Verdict
from components.evaluate.evaluate import Outputs, evaluate
from components.gate.gate import Inputs, compare_answers, gate, refuse_by_baseline, refuse_by_champion
from tests.small_model import SmallData, write_small_bundle, write_small_data


def figures(correct: int, bins: int, commonest: int) -> Evaluation:
    """An evaluation with `correct` right of `bins`, of which `commonest` hold one item and the others two to five."""
    truth = np.array([1] * commonest + [2 + place % 4 for place in range(bins - commonest)])
    said = np.where(np.arange(bins) < correct, truth, truth % 5 + 1)
    return evaluate_counts(truth, np.eye(5)[said - 1] * 0.9 + 0.02)


def test_clearly_above_the_baseline_passes():
    assert refuse_by_baseline(figures(500, 1000, 300), margin=0) == ""


def test_a_lead_within_the_interval_is_not_enough():
    reason = refuse_by_baseline(figures(320, 1000, 300), margin=0)
    assert "32.0%" in reason
    assert "always answering 1 (30.0%)" in reason


def test_the_margin_is_asked_for_on_top():
    evaluation = figures(400, 1000, 300)
    assert refuse_by_baseline(evaluation, margin=0.0) == ""
    assert "margin of 10.0%" in refuse_by_baseline(evaluation, margin=0.1)


def test_a_champion_that_is_as_good_makes_room():
    right = np.arange(200) % 3 == 0
    assert refuse_by_champion(figures(67, 200, 40), compare_answers("c", right, right)) == ""


def test_a_champion_that_is_clearly_better_stays():
    ours = np.arange(400) % 4 == 0
    reason = refuse_by_champion(
        figures(100, 400, 90), compare_answers("champion", ours, ours | (np.arange(400) % 4 == 1))
    )
    assert "champion" in reason
    assert "50.0%" in reason
    assert "25.0%" in reason


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_of_two_models_never_both_are_refused_for_the_other(pairs):
    ours, theirs = (np.array(column) for column in zip(*pairs, strict=True))
    evaluation = figures(1, 2, 1)
    one = refuse_by_champion(evaluation, compare_answers("c", ours, theirs))
    other = refuse_by_champion(evaluation, compare_answers("c", theirs, ours))
    assert not (one and other)


@pytest.fixture(scope="module")
def models_uri() -> str:
    return f"s3://models/{uuid4().hex}"


def judged(folder: Path, data: SmallData, shift: float) -> Inputs:
    """Everything the gate reads, for a model that miscounts by `shift`."""
    bundle = write_small_bundle(folder / "bundle", shift)
    outputs = Outputs(folder / "metrics.json", folder / "predictions.parquet", folder / "report.html")
    evaluate(bundle.folder, data.index, data.splits, 0, outputs)
    return Inputs(bundle.folder, outputs.metrics, outputs.predictions, data.index)


@pytest.fixture
def data(store_environment, tmp_path) -> SmallData:
    return write_small_data(tmp_path / "data", bins=240)


def test_the_first_good_model_passes(data, tmp_path, models_uri):
    verdict = gate(judged(tmp_path, data, 0), "", models_uri, margin=0, force=False)
    assert (verdict.passed, verdict.decision, verdict.champion) == (True, "deploy", "")
    verdict.write(tmp_path / "verdict.json")
    assert Verdict.read(tmp_path / "verdict.json") == verdict


def test_a_model_that_guesses_is_kept_out_and_told_why(data, tmp_path, models_uri, capsys):
    verdict = gate(judged(tmp_path, data, 2.0), "", models_uri, margin=0, force=False)
    assert (verdict.passed, verdict.decision) == (False, "keep")
    assert "always answering" in verdict.reason
    assert verdict.reason in capsys.readouterr().out


def test_force_lets_it_pass_and_says_so(data, tmp_path, models_uri):
    verdict = gate(judged(tmp_path, data, 2.0), "", models_uri, margin=0, force=True)
    assert (verdict.passed, verdict.forced) == (True, True)
    assert "forced" in verdict.reason


def test_force_is_not_mentioned_where_it_was_not_needed(data, tmp_path, models_uri):
    assert not gate(judged(tmp_path, data, 0), "", models_uri, margin=0, force=True).forced


def test_the_serving_model_is_asked_about_the_same_bins(data, tmp_path, models_uri):
    champion = Registry.open(models_uri).publish(write_small_bundle(tmp_path / "champion").folder, [])
    worse = gate(judged(tmp_path / "worse", data, 0.45), champion, models_uri, margin=0, force=False)
    assert not worse.passed
    assert f"Version {champion}, which serves now" in worse.reason
    assert worse.champion_accuracy > worse.figures.accuracy
    equal = gate(judged(tmp_path / "equal", data, 0.02), champion, models_uri, margin=0, force=False)
    assert equal.passed


def test_the_serving_model_itself_passes_again(data, tmp_path, models_uri):
    inputs = judged(tmp_path, data, 0)
    champion = Registry.open(models_uri).publish(inputs.bundle, [])
    verdict = gate(inputs, champion, models_uri, margin=0, force=False)
    assert (verdict.passed, verdict.version) == (True, champion)


def test_a_champion_that_is_gone_is_named(data, tmp_path, models_uri):
    with pytest.raises(UserError, match="no version 0123456789ab"):
        gate(judged(tmp_path, data, 0), "0123456789ab", models_uri, margin=0, force=False)


def test_figures_that_cannot_be_read_are_named(data, tmp_path, models_uri):
    inputs = judged(tmp_path, data, 0)
    inputs.metrics.write_text("{}")
    with pytest.raises(UserError, match="run evaluate again"):
        gate(inputs, "", models_uri, margin=0, force=False)
