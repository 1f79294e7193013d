"""The evaluate step with a real model on real shards."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import UserError
from components.core.predictions import read_predictions, stack_scores
from components.core.records import read_splits, write_splits
from components.evaluate.evaluate import Outputs, evaluate
from pipeline.local_store import RunningStore
from tests.small_model import SmallData, write_small_bundle, write_small_data


@pytest.fixture
def data(store_environment: RunningStore, tmp_path: Path) -> SmallData:
    return write_small_data(tmp_path / "data")


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(tmp_path / "out/metrics.json", tmp_path / "out/predictions.parquet", tmp_path / "out/report.html")


def test_a_good_model_is_judged_on_the_test_bins_only(
    data: SmallData, outputs: Outputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = evaluate(write_small_bundle(tmp_path / "bundle").folder, data.index, data.splits, 0, outputs)
    splits = read_splits(data.splits)
    assert figures.n_test == (splits["subset"] == "test").sum()
    assert figures.accuracy > 0.8
    assert json.loads(outputs.metrics.read_text())["accuracy"] == figures.accuracy
    assert re.search(
        rf"^Test set: Average loss: \d+\.\d{{4}}, Accuracy: {figures.correct}/{figures.n_test} \(\d+%\)$",
        capsys.readouterr().out,
        re.MULTILINE,
    )


def test_predictions_hold_every_held_out_bin_and_no_other(data: SmallData, outputs: Outputs, tmp_path: Path) -> None:
    evaluate(write_small_bundle(tmp_path / "bundle").folder, data.index, data.splits, 0, outputs)
    predictions = read_predictions(outputs.predictions)
    splits = read_splits(data.splits)
    held_out = splits[splits["block_subset"] == "test"]
    assert list(predictions["image_id"]) == sorted(held_out["image_id"])
    assert np.allclose(stack_scores(predictions).sum(axis=1), 1, atol=1e-5)
    assert (predictions["count"] == stack_scores(predictions).argmax(axis=1) + 1).all()


def test_out_of_range_is_judged_on_extra_bins_that_no_training_saw(
    data: SmallData, outputs: Outputs, tmp_path: Path
) -> None:
    figures = evaluate(write_small_bundle(tmp_path / "bundle").folder, data.index, data.splits, 0, outputs)
    splits = read_splits(data.splits)
    assert figures.out_of_range is not None
    held_out = splits[(splits["subset"] == "extra") & (splits["block_subset"] == "test")]
    assert figures.out_of_range.n_out_of_range == len(held_out)
    assert figures.out_of_range.auc > 0.9
    assert "more than 5 items" in outputs.report.read_text()


def test_a_model_without_out_of_range_is_judged_without_it(data: SmallData, outputs: Outputs, tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "bundle", out_of_range=False)
    assert evaluate(bundle.folder, data.index, data.splits, 0, outputs).out_of_range is None
    assert read_predictions(outputs.predictions)["out_of_range"].isna().all()


def test_the_report_shows_the_surest_mistakes_and_is_one_file(
    data: SmallData, outputs: Outputs, tmp_path: Path
) -> None:
    figures = evaluate(write_small_bundle(tmp_path / "bundle", shift=0.5).folder, data.index, data.splits, 0, outputs)
    page = outputs.report.read_text()
    mistakes = page.partition("Surest mistakes</h2>")[2].partition("<h2>")[0]
    wrong = figures.n_test - figures.correct
    assert mistakes.count("data:image/jpeg;base64,") == min(12, wrong) > 0
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert f"{figures.accuracy:.1%}" in page
    assert figures.ece_if_calibrated is not None
    believed = "can be believed" if figures.ece <= figures.ece_if_calibrated else "cannot be taken at their word"
    assert believed in page


def test_the_report_shows_what_the_model_looks_at_in_mistakes_and_in_right_answers_of_every_count(
    data: SmallData, outputs: Outputs, tmp_path: Path
) -> None:
    evaluate(write_small_bundle(tmp_path / "bundle", shift=0.5).folder, data.index, data.splits, 0, outputs)
    predictions = read_predictions(outputs.predictions).query("subset == 'test'")
    right = predictions[predictions["count"] == predictions["quantity"]]
    section = outputs.report.read_text().partition("What it looks at</h2>")[2].partition("<h2>")[0]
    of_mistakes, _, of_right = section.partition("Of the surest right answers, by count:")
    assert of_mistakes.count("<img") == min(8, len(predictions) - len(right)) > 0
    assert of_right.count("<img") == right.groupby("count").size().clip(upper=2).sum()
    shown = [int(count) for count in re.findall(r"<figcaption>\d+: holds (\d)", of_right)]
    assert shown == sorted(shown)
    assert set(shown) == set(right["count"])


def test_a_test_bin_without_a_photo_is_left_out_and_told(data: SmallData, outputs: Outputs, tmp_path: Path) -> None:
    splits = read_splits(data.splits)
    lost = splits[splits["subset"] == "test"].iloc[:1].assign(image_id="99999")
    write_splits(data.splits, __import__("pandas").concat([splits, lost]))
    evaluate(write_small_bundle(tmp_path / "bundle").folder, data.index, data.splits, 0, outputs)
    assert "1 more test bins have no usable photo" in outputs.report.read_text()


def test_no_test_bin_at_all_is_one_sentence(data: SmallData, outputs: Outputs, tmp_path: Path) -> None:
    splits = read_splits(data.splits)
    write_splits(data.splits, splits.assign(subset="train", block_subset="train"))
    with pytest.raises(UserError, match=r"^There is no test bin.*\.$|^No held-out bin.*\.$"):
        evaluate(write_small_bundle(tmp_path / "bundle").folder, data.index, data.splits, 0, outputs)
    assert not outputs.metrics.exists()


def test_the_step_runs_from_a_shell_and_a_damaged_bundle_is_one_sentence(
    data: SmallData, outputs: Outputs, tmp_path: Path
) -> None:
    bundle = write_small_bundle(tmp_path / "bundle")
    bundle.onnx_path.write_bytes(b"damaged")
    command = [sys.executable, "-m", "components.evaluate", "--bundle", str(bundle.folder)]
    arguments = ["--shard-index", str(data.index), "--splits", str(data.splits)]
    run = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert re.fullmatch(r"error: .*damaged.*\.\n", run.stderr)
