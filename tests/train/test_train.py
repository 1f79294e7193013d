import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from components.core.bundle import read_bundle
from components.core.errors import UserError
from components.core.pixel_cache import open_pixels
from components.core.recipe import choose_recipe
from components.core.runtime import open_runtime
from components.core.shards import ShardIndex
from components.train.job import Job, Outputs
from components.train.loop.distributed import Processes
from components.train.network.model import Classes
from components.train.records import ExtraComparison, Learned
from components.train.train import train
from pipeline.local_store import RunningStore
from tests.train.conftest import ALONE, FAST, SmallData, store_bins


def run(job: Job, tmp_path: Path, name: str = "out") -> tuple[Any, Outputs]:
    folder = tmp_path / name
    outputs = Outputs(folder / "bundle", folder / "report", folder / "curves", folder / "logs")
    return train(job, outputs, ALONE), outputs


def test_finetune_writes_a_bundle_that_answers_as_trained(
    job_of: Callable[..., Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, outputs = run(job_of(overrides='{"batch_size": 16, "serving": "best"}'), tmp_path)
    bundle = read_bundle(outputs.bundle)
    assert bundle.info.has_out_of_range
    assert bundle.info.training_images == len(result.fitted.prepared.data.train)
    pixels = np.array(open_pixels(ShardIndex.read(result.fitted.prepared.job.shard_index), 48).pixels[:9])
    prediction = open_runtime(bundle, "openvino", "f32").predict(pixels)
    assert np.allclose(prediction.scores.sum(1), 1, atol=1e-5)
    assert prediction.out_of_range is not None
    assert prediction.empty_and_more is not None
    assert ((prediction.out_of_range >= 0) & (prediction.out_of_range <= 1)).all()
    with torch.no_grad():
        scores, out_of_range, apart = result.fitted.served(torch.from_numpy(pixels))
    assert np.abs(prediction.scores - scores.numpy()).max() < 1e-3
    assert np.abs(prediction.out_of_range - out_of_range.numpy()).max() < 1e-3
    assert np.abs(prediction.empty_and_more - apart.numpy()).max() < 1e-3
    assert bundle.info.drift_baseline is not None
    assert bundle.info.drift_baseline.bins == len(result.fitted.logits)
    assert {one.precision for one in result.measured} == {"f32", "bf16", "int8"}
    said = capsys.readouterr().out
    assert re.search(r"epoch 2: \d+ images seen, .* loss .* running accuracy", said)


def test_a_mirrored_model_answers_a_photo_and_its_mirror_image_alike(
    job_of: Callable[..., Job], tmp_path: Path
) -> None:
    result, outputs = run(job_of("best"), tmp_path)
    pixels = np.array(open_pixels(ShardIndex.read(result.fitted.prepared.job.shard_index), 48).pixels[:9])
    runtime = open_runtime(read_bundle(outputs.bundle), "openvino", "f32")
    assert not np.array_equal(pixels, pixels[:, :, ::-1])
    straight, mirrored = runtime.predict(pixels), runtime.predict(np.ascontiguousarray(pixels[:, :, ::-1]))
    assert np.abs(straight.scores - mirrored.scores).max() < 1e-5


def test_the_weights_file_is_the_trained_network(job_of: Callable[..., Job], tmp_path: Path) -> None:
    result, outputs = run(job_of(), tmp_path)
    stored = load_file(outputs.bundle / "weights.safetensors")
    trained = result.fitted.served.counter.state_dict()
    assert stored.keys() == trained.keys()
    assert all(torch.equal(stored[name], trained[name]) for name in stored)


def test_with_early_stopping_all_figures_are_those_of_the_weights_that_are_kept(
    job_of: Callable[..., Job], tmp_path: Path
) -> None:
    overrides = {"early_stopping": 2, "learning_rate": 0.003, "schedule": "constant", "ema_decay": 0, "autocast": "f32"}
    result, outputs = run(job_of(epochs=8, overrides=json.dumps(json.loads(FAST) | overrides)), tmp_path)
    outcome, metrics = result.fitted.outcome, result.bundle.info.metrics
    kept = outcome.history[outcome.kept - 1]
    assert kept.validation_loss == min(epoch.validation_loss for epoch in outcome.history)
    assert metrics["validation_loss"] == pytest.approx(kept.validation_loss, abs=1e-3)
    assert metrics["validation_accuracy"] == pytest.approx(kept.validation_accuracy, abs=1e-6)
    assert f"{metrics['validation_loss']:.4f}" in outputs.report.read_text()


def test_report_and_curves_are_pages_people_can_open(job_of: Callable[..., Job], tmp_path: Path) -> None:
    _, outputs = run(job_of(), tmp_path)
    curves = Image.open(io.BytesIO(outputs.curves.read_bytes()))
    assert curves.format == "PNG"
    page = outputs.report.read_text()
    headings = ["Curves", "What the rules found", "Calibration", "Precision to serve with", "Bins out of range"]
    for heading in [*headings, "Whether the extra bins helped"]:
        assert f"<h2>{heading}</h2>" in page
    assert outputs.logs is not None
    assert list(outputs.logs.glob("events.out.tfevents.*"))


def test_a_second_training_without_the_extra_bins_says_whether_they_helped(
    job_of: Callable[..., Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = json.dumps(json.loads(FAST) | {"compare_extra": True})
    result, outputs = run(job_of(epochs=4, overrides=overrides), tmp_path)
    compared, data = result.extra, result.fitted.prepared.data
    in_range = int(((data.train.quantities >= 1) & (data.train.quantities <= 5)).sum())
    assert (compared.with_extra.training_bins, compared.without_extra.training_bins) == (len(data.train), in_range)
    assert compared.without_extra.epochs == round(4 * len(data.train) / in_range) > 4
    difference = compared.with_extra.accuracy - compared.without_extra.accuracy
    assert compared.difference[0] <= difference <= compared.difference[1]
    assert str(compared) in outputs.report.read_text().replace("&#43;", "+")
    assert str(compared) in capsys.readouterr().out
    # The comparison takes nothing from the model: it is the one that would have been trained without it.
    alone, others = run(job_of(epochs=4), tmp_path, "alone")
    ours, same = (load_file(one.bundle.weights_path) for one in (result, alone))
    assert [name for name in ours if not torch.equal(ours[name], same[name])] == []
    assert "compare_extra" in others.report.read_text()


def test_a_comparison_asked_for_later_goes_on_from_the_training_there_is(
    job_of: Callable[..., Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "checkpoints")
    run(job_of(checkpoints=folder), tmp_path, "first")
    capsys.readouterr()
    overrides = json.dumps(json.loads(FAST) | {"compare_extra": True})
    result, _ = run(job_of(overrides=overrides, checkpoints=folder), tmp_path, "second")
    steps = sum(record.steps for record in result.fitted.outcome.history)
    [going_on] = re.findall(r"Going on from .*", capsys.readouterr().out)
    assert f"step {steps}." in going_on
    assert result.extra is not None


def test_a_comparison_without_extra_bins_to_learn_from_is_refused() -> None:
    with pytest.raises(UserError, match="compare_extra needs use_extra"):
        choose_recipe("frozen", overrides='{"compare_extra": true}')


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.01, 0.05, "helped"), (-0.05, -0.01, "did harm"), (-0.01, 0.02, "no difference")]
)
def test_the_verdict_on_extra_bins_follows_the_interval(low: float, high: float, verdict: str) -> None:
    learned = Learned(100, 4, 0.4 + (low + high) / 2, 1.1, 1.3)
    assert verdict in str(ExtraComparison(learned, Learned(60, 7, 0.4, 1.1, 1.3), (low, high)))


def test_frozen_leaves_the_backbone_as_it_was(job_of: Callable[..., Job], tmp_path: Path) -> None:
    torch.manual_seed(0)  # the random weights that both start from
    result, _ = run(job_of("frozen", 3), tmp_path)
    assert result.bundle.info.has_out_of_range is False
    torch.manual_seed(0)
    again, _ = run(job_of("frozen", 6), tmp_path, "again")
    before, after = (load_file(one.bundle.weights_path) for one in (result, again))
    network = [name for name in before if name.startswith("network")]
    assert network
    assert again.fitted.prepared.backbone.digest == result.fitted.prepared.backbone.digest
    assert all(torch.equal(before[name], after[name]) for name in network)
    assert not torch.equal(before["head.linear.weight"], after["head.linear.weight"])


def test_finetune_learns_to_count_squares(job_of: Callable[..., Job], tmp_path: Path) -> None:
    job = job_of(
        epochs=30, overrides='{"batch_size": 16, "serving": "f32", "batch_norm": "train", "learning_rate": 0.004}'
    )
    result, _ = run(job, tmp_path)
    first, last = result.fitted.outcome.history[0], result.fitted.outcome.history[-1]
    assert last.train_loss < 0.8 * first.train_loss


def test_every_count_is_seen_once_an_epoch(job_of: Callable[..., Job], tmp_path: Path) -> None:
    result, _ = run(job_of(epochs=3), tmp_path)
    train_bins = len(result.fitted.prepared.data.train)
    assert [record.images for record in result.fitted.outcome.history] == [train_bins] * 3


def test_a_rejected_photo_is_left_out_and_told(
    small_data: SmallData, job_of: Callable[..., Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from components.core.records import read_splits, write_splits

    table = read_splits(small_data.splits)
    table.loc[0, "image_id"] = "99999"
    write_splits(small_data.splits, table)
    result, _ = run(job_of("frozen"), tmp_path)
    assert result.fitted.prepared.data.missing == 1
    assert "1 bins of the split have no usable photo" in capsys.readouterr().out


def test_a_class_without_samples_is_told_and_trained_around(
    store_environment: RunningStore, job_of: Callable[..., Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = store_bins(tmp_path, [(1, 2, 3, 5)[number % 4] for number in range(60)])
    job = job_of("frozen")
    run(Job(data.index, data.splits, job.recipe, 5, weights="random"), tmp_path)
    said = capsys.readouterr().out
    assert "No training bin holds 4 items" in said
    assert "class imbalance" in said


@pytest.mark.parametrize(
    ("overrides", "processes", "message"),
    [
        ('{"batch_size": 500}', 1, "A batch of 500 is larger than the"),
        ('{"batch_size": 16}', 1000, "1000 processes cannot share"),
        ('{"batch_size": 2}', 4, "A batch of 2 cannot be shared by 4 processes"),
    ],
)
def test_sizes_that_cannot_work_are_refused(
    job_of: Callable[..., Job], tmp_path: Path, overrides: str, processes: int, message: str
) -> None:
    outputs = Outputs(tmp_path / "bundle", tmp_path / "report", tmp_path / "curves")
    with pytest.raises(UserError, match=message):
        train(job_of("frozen", overrides=overrides), outputs, Processes(0, processes, torch.device("cpu")))
    assert not (tmp_path / "bundle").exists()


def test_shards_of_another_download_are_refused(
    store_environment: RunningStore, job_of: Callable[..., Job], small_data: SmallData, tmp_path: Path
) -> None:
    other = store_bins(tmp_path / "other", [1, 2, 3] * 3)
    table_of_others = job_of("frozen")
    job = Job(other.index, small_data.splits, table_of_others.recipe, 5, weights="random")
    from components.core.records import read_splits, write_splits

    table = read_splits(small_data.splits)
    table["image_id"] = "7" + table["image_id"]
    write_splits(small_data.splits, table)
    with pytest.raises(UserError, match="does not belong to these splits"):
        run(job, tmp_path)


def test_nan_stops_the_run_and_says_what_to_do(job_of: Callable[..., Job], tmp_path: Path) -> None:
    job = job_of(epochs=5, overrides='{"batch_size": 16, "optimiser": "sgd", "learning_rate": 100, "momentum": 0.99}')
    with pytest.raises(UserError, match=r"rule 'nan'.*Lower learning_rate"):
        run(job, tmp_path)
    assert not (tmp_path / "out" / "bundle").exists()


def test_classes_name_zero_and_more_only_with_extra_bins() -> None:
    quantities = torch.tensor([0, 1, 5, 6, 40])
    assert Classes(5, True).of_quantity(quantities).tolist() == [0, 1, 5, 6, 6]
    assert Classes(5, False).of_quantity(quantities[1:3]).tolist() == [0, 4]
    logits = torch.arange(7.0)[None]
    assert Classes(5, True).in_range(logits).tolist() == [[1, 2, 3, 4, 5]]
    assert Classes(5, False).in_range(logits[:, :5]).tolist() == [[0, 1, 2, 3, 4]]


def test_a_trace_is_written_on_request(job_of: Callable[..., Job], tmp_path: Path) -> None:
    run(job_of(epochs=3, trace=tmp_path / "trace.json"), tmp_path)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", ["finetune", "frozen"])
def test_training_on_a_gpu_gives_the_same_kind_of_bundle(
    job_of: Callable[..., Job], tmp_path: Path, recipe: str
) -> None:
    folder = tmp_path / "out"
    outputs = Outputs(folder / "bundle", folder / "report", folder / "curves")
    result = train(job_of(recipe), outputs, Processes(0, 1, torch.device("cuda")))
    assert result is not None
    assert result.difference < 1e-3
    assert read_bundle(outputs.bundle).info.recipe == recipe
