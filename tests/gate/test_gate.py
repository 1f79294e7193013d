"""The gate: its rule against the baseline, and the step with real models in service."""

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from components.core.bundle import Bundle
from components.core.errors import UserError
from components.core.layout import version_prefix
from components.core.metrics import Evaluation, evaluate_counts
from components.core.records import read_splits
from components.core.registry import Registry
from components.core.verdict import Verdict
from components.evaluate.evaluate import Outputs, evaluate
from components.gate.gate import Inputs, gate, refuse_by_baseline
from pipeline.local_store import RunningStore
from tests.small_model import SmallData, write_small_bundle, write_small_data


def figures(correct: int, bins: int, commonest: int) -> Evaluation:
    """An evaluation with `correct` right of `bins`, of which `commonest` hold one item and the others two to five."""
    truth = np.array([1] * commonest + [2 + place % 4 for place in range(bins - commonest)])
    said = np.where(np.arange(bins) < correct, truth, truth % 5 + 1)
    return evaluate_counts(truth, np.eye(5)[said - 1] * 0.9 + 0.02)


def test_clearly_above_the_baseline_passes() -> None:
    assert refuse_by_baseline(figures(500, 1000, 300), margin=0) == ""


def test_a_lead_within_the_interval_is_not_enough() -> None:
    reason = refuse_by_baseline(figures(320, 1000, 300), margin=0)
    assert "32.0%" in reason
    assert "always answering 1 (30.0%)" in reason


def test_the_margin_is_asked_for_on_top() -> None:
    evaluation = figures(400, 1000, 300)
    assert refuse_by_baseline(evaluation, margin=0.0) == ""
    assert "margin of 10.0%" in refuse_by_baseline(evaluation, margin=0.1)


@pytest.fixture
def models_uri() -> str:
    return f"s3://models/{uuid4().hex}"


def judged(folder: Path, data: SmallData, shift: float) -> Inputs:
    """Everything the gate reads, for a model that miscounts by `shift`."""
    bundle = write_small_bundle(folder / "bundle", shift)
    outputs = Outputs(folder / "metrics.json", folder / "predictions.parquet", folder / "report.html")
    evaluate(bundle.folder, data.index, data.splits, 0, outputs)
    return Inputs(bundle.folder, outputs.metrics, outputs.predictions, data.index)


@pytest.fixture
def data(store_environment: RunningStore, tmp_path: Path) -> SmallData:
    return write_small_data(tmp_path / "data", bins=600)


def test_the_first_good_model_passes(data: SmallData, tmp_path: Path, models_uri: str) -> None:
    verdict = gate(judged(tmp_path, data, 0), "", models_uri, margin=0, force=False)
    assert (verdict.passed, verdict.decision, verdict.champion) == (True, "deploy", "")
    verdict.write(tmp_path / "verdict.json")
    assert Verdict.read(tmp_path / "verdict.json") == verdict


def test_a_model_that_guesses_is_kept_out_and_told_why(
    data: SmallData, tmp_path: Path, models_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = gate(judged(tmp_path, data, 2.0), "", models_uri, margin=0, force=False)
    assert (verdict.passed, verdict.decision) == (False, "keep")
    assert "always answering" in verdict.reason
    assert verdict.reason in capsys.readouterr().out


def test_force_lets_it_pass_and_says_so(data: SmallData, tmp_path: Path, models_uri: str) -> None:
    verdict = gate(judged(tmp_path, data, 2.0), "", models_uri, margin=0, force=True)
    assert (verdict.passed, verdict.forced) == (True, True)
    assert "forced" in verdict.reason


def test_force_is_not_mentioned_where_it_was_not_needed(data: SmallData, tmp_path: Path, models_uri: str) -> None:
    assert not gate(judged(tmp_path, data, 0), "", models_uri, margin=0, force=True).forced


def serve(models_uri: str, *bundles: Bundle) -> list[str]:
    """Publish the bundles and put one after the other into service."""
    registry = Registry.open(models_uri)
    versions = [registry.publish(bundle.folder, []) for bundle in bundles]
    for version in versions:
        registry.advance(registry.current(), version, "", "", "local", None)
    return versions


def test_the_serving_model_is_asked_about_the_same_bins(data: SmallData, tmp_path: Path, models_uri: str) -> None:
    (champion,) = serve(models_uri, write_small_bundle(tmp_path / "champion"))
    worse = gate(judged(tmp_path / "worse", data, 0.45), champion, models_uri, margin=0, force=False)
    assert not worse.passed
    assert f"Version {champion}, the best of those that served of late" in worse.reason
    assert worse.reference_accuracy is not None
    assert worse.reference_accuracy > worse.figures.accuracy
    equal = gate(judged(tmp_path / "equal", data, 0.02), champion, models_uri, margin=0, force=False)
    assert (equal.passed, equal.reference) == (True, champion)


def test_the_reference_is_the_best_of_those_that_served_of_late(
    data: SmallData, tmp_path: Path, models_uri: str
) -> None:
    bundles = [write_small_bundle(tmp_path / f"served-{shift}", shift) for shift in (0.5, 0, 0.44)]
    _, best, champion = serve(models_uri, *bundles)
    verdict = gate(judged(tmp_path / "ours", data, 0.43), champion, models_uri, margin=0, force=False)
    assert (verdict.passed, verdict.champion, verdict.reference) == (False, champion, best)


def test_a_version_before_that_is_gone_is_passed_over_and_told(
    data: SmallData, tmp_path: Path, models_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, champion = serve(models_uri, *(write_small_bundle(tmp_path / f"served-{s}", s) for s in (0.3, 0)))
    Registry.open(models_uri).store.delete(f"{version_prefix(gone)}model.onnx")
    verdict = gate(judged(tmp_path / "ours", data, 0.02), champion, models_uri, margin=0, force=False)
    assert verdict.reference == champion
    assert f"version {gone} is not compared with" in capsys.readouterr().out


def test_bins_that_a_reference_was_trained_on_do_not_count(data: SmallData, tmp_path: Path, models_uri: str) -> None:
    test = read_splits(data.splits).query("subset == 'test'")["image_id"]
    trained = write_small_bundle(tmp_path / "champion", seen=list(test[::10]))
    (champion,) = serve(models_uri, trained)
    verdict = gate(judged(tmp_path / "ours", data, 0), champion, models_uri, margin=0, force=False)
    assert (verdict.reference, verdict.compared_bins) == (champion, len(test) - len(test[::10]))


def test_with_too_few_bins_that_no_version_saw_the_baseline_decides_and_that_is_told(
    data: SmallData, tmp_path: Path, models_uri: str
) -> None:
    test = list(read_splits(data.splits).query("subset == 'test'")["image_id"])
    (champion,) = serve(models_uri, write_small_bundle(tmp_path / "champion", seen=test[99:]))
    verdict = gate(judged(tmp_path / "ours", data, 0.45), champion, models_uri, margin=0, force=False)
    assert (verdict.passed, verdict.reference, verdict.compared_bins) == (True, "", 0)
    assert f"only 99 of the {len(test)} test bins" in verdict.reason


def test_a_version_that_does_not_tell_its_training_bins_is_not_compared_with(
    data: SmallData, tmp_path: Path, models_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (champion,) = serve(models_uri, write_small_bundle(tmp_path / "champion", training_ids_digest="1" * 64))
    verdict = gate(judged(tmp_path / "ours", data, 0), champion, models_uri, margin=0, force=False)
    assert (verdict.passed, verdict.reference) == (True, "")
    assert f"version {champion} is not compared with" in capsys.readouterr().out


def test_fewer_than_100_test_bins_make_a_weak_verdict(
    store_environment: RunningStore, data: SmallData, tmp_path: Path, models_uri: str
) -> None:
    few = write_small_data(tmp_path / "few", bins=240)
    verdicts = [
        gate(judged(tmp_path / f"of-{n}", each, 0), "", models_uri, 0, False) for n, each in enumerate((few, data))
    ]
    assert [verdict.weak for verdict in verdicts] == [True, False]
    assert ["weak verdict" in verdict.reason for verdict in verdicts] == [True, False]


def test_the_serving_model_itself_passes_again(data: SmallData, tmp_path: Path, models_uri: str) -> None:
    inputs = judged(tmp_path, data, 0)
    champion = Registry.open(models_uri).publish(inputs.bundle, [])
    verdict = gate(inputs, champion, models_uri, margin=0, force=False)
    assert (verdict.passed, verdict.version) == (True, champion)


def test_a_champion_that_is_gone_is_named(data: SmallData, tmp_path: Path, models_uri: str) -> None:
    with pytest.raises(UserError, match="no version 0123456789ab"):
        gate(judged(tmp_path, data, 0), "0123456789ab", models_uri, margin=0, force=False)


def test_figures_that_cannot_be_read_are_named(data: SmallData, tmp_path: Path, models_uri: str) -> None:
    inputs = judged(tmp_path, data, 0)
    inputs.metrics.write_text("{}")
    with pytest.raises(UserError, match="run evaluate again"):
        gate(inputs, "", models_uri, margin=0, force=False)
