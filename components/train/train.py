"""The train step: from shards and splits to a bundle, a report and the curves."""

import platform
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from components.core.bundle import INT8_FILE, MODEL_FILE, WEIGHTS_FILE, BundleInfo, Precision, write_bundle
from components.core.drift import DriftBaseline
from components.core.metrics import OutOfRangeFigures, calibration_error, error_if_calibrated, out_of_range_figures
from components.core.pixel_cache import open_pixels
from components.core.posterior import RECORD_FILE, RecordModel
from components.core.seen import write_seen
from components.core.shards import ShardIndex
from components.train.data import FeatureSource, PixelSource, join
from components.train.job import Fitted, Job, Outputs, Prepared, Result
from components.train.loop.checkpoint import Checkpoints, Description, code_digest
from components.train.loop.distributed import Processes
from components.train.loop.optimise import computes_in_bf16
from components.train.loop.process import freed_memory_kept
from components.train.loop.training import Training
from components.train.network.backbones import create_backbone
from components.train.network.calibration import calibrate
from components.train.network.export import check_against_torch, export_onnx, predict, served_outputs
from components.train.network.features import frozen_features
from components.train.network.model import Classes, Counter, Head, Normalise, Served
from components.train.network.serving import Measured, choose, measure, quantise
from components.train.record_model.fit import Known, fit_record_model
from components.train.records import EpochRecord, ExtraComparison, Inputs
from components.train.watch.extra import compare, without_extra
from components.train.watch.log import Log, announce, summarise, write_history
from components.train.watch.page import draw_curves, write_report

_PACKAGES = ("torch", "torchvision", "timm", "onnx", "openvino", "nncf", "numpy", "pillow")


def prepare(job: Job, processes: Processes) -> Prepared:
    """Read the data, create the network, and compute features where the backbone is frozen."""
    recipe = job.recipe
    torch.manual_seed(job.seed)  # a random start has to be the same one when the run goes on
    backbone = create_backbone(recipe.backbone, job.weights)
    index = ShardIndex.read(job.shard_index)
    index.note_use()
    cache = open_pixels(index, recipe.image_size)
    data = join(index, job.splits, cache, recipe.use_extra, job.max_count)
    if job.limit:
        data = data.limited(job.limit, job.seed)
    classes = Classes(job.max_count, recipe.use_extra)
    torch.manual_seed(job.seed)
    head = Head(backbone.features, classes.number, recipe.dropout)
    pixels = PixelSource(cache, processes.device)
    if recipe.train_backbone:
        by_size = {recipe.image_size: pixels}  # the loop asks for the sizes it trains at

        def source_of(size: int) -> PixelSource:
            if size not in by_size:
                by_size[size] = PixelSource(open_pixels(index, size), processes.device)
            return by_size[size]

        normalise = Normalise(backbone.mean, backbone.std).to(processes.device)
        inputs = Inputs(source_of, pixels, normalise, data.train, data.validation)
    else:
        precision: Precision = "bf16" if computes_in_bf16(recipe.features, processes.device) else "f32"
        features = frozen_features(backbone, index, cache, processes.device, precision, job.shared)
        if recipe.standardise:
            head.standardise(features[data.train.rows])
        source = FeatureSource(features, processes.device)
        inputs = Inputs(lambda _: source, source, None, data.train, data.validation)
    return Prepared(job, data, backbone, classes, head, inputs, pixels)


def describe(prepared: Prepared) -> Description:
    """Everything that decides the weights."""
    job = prepared.job
    return {
        "recipe": job.recipe.model_dump(mode="json", exclude={"compare_extra"}),  # it trains another model beside
        "max_count": job.max_count,
        "seed": job.seed,
        "limit": job.limit,
        "photos": prepared.data.index.digest,
        "splits": prepared.data.digest,
        "weights": prepared.backbone.digest,
        "code": code_digest(),
    }


def fit(prepared: Prepared, processes: Processes, on_epoch: Callable[[EpochRecord], None] = lambda _: None) -> Fitted:
    """Train, then calibrate on validation."""
    job, classes, head = prepared.job, prepared.classes, prepared.head
    torch.manual_seed(job.seed)
    counter = Counter(prepared.backbone, head, job.recipe.mirrored)
    trained: torch.nn.Module = counter if job.recipe.train_backbone else head
    checkpoints = Checkpoints(job.checkpoints, describe(prepared), job.checkpoint_interval)
    training = Training(
        job.recipe, trained, classes, prepared.inputs, job.seed, processes, checkpoints, on_epoch, job.trace
    )  # fmt: skip
    with freed_memory_kept():
        outcome = training.run()
    data = prepared.data
    judged = np.concatenate([data.validation.rows, data.extra.rows]) if classes.with_extra else data.validation.rows
    quantities = np.concatenate([data.validation.quantities, data.extra.quantities])[: len(judged)]
    normalise = Normalise(prepared.backbone.mean, prepared.backbone.std)
    if job.recipe.train_backbone:
        whole = torch.nn.Sequential(normalise, counter)
        found = predict(whole, prepared.pixels.cache.read(judged), processes.device)[0]
    else:
        with torch.no_grad():
            head.eval()
            found = head(prepared.inputs.validation.gather(judged)).cpu().numpy()
    calibrated = calibrate(found, classes.of_quantity(torch.from_numpy(quantities)).numpy())
    served = Served(normalise, counter, classes, calibrated.calibration)
    return Fitted(prepared, outcome, served, calibrated, found)


def finish(fitted: Fitted, folder: Path, processes: Processes) -> Result:
    """Export, check, choose the serving precision, and write the bundle."""
    prepared, job = fitted.prepared, fitted.prepared.job
    data, recipe = prepared.data, job.recipe
    outputs = served_outputs(prepared.classes.with_extra)
    rows = np.concatenate([data.validation.rows, data.extra.rows])
    quantities = np.concatenate([data.validation.quantities, data.extra.quantities])
    pixels = prepared.pixels.cache.read(rows)
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        export_onnx(fitted.served, recipe.image_size, files / MODEL_FILE, outputs)
        difference = check_against_torch(fitted.served, files / MODEL_FILE, pixels, outputs)
        weights = {key: value.contiguous() for key, value in fitted.served.counter.state_dict().items()}
        save_file(weights, files / WEIGHTS_FILE)
        if prepared.classes.with_extra:
            _record_model(fitted).write(files / RECORD_FILE)
        write_seen(files, [*data.train.ids, *data.validation.ids, *data.extra.ids])
        info = _info(fitted)
        measured = [measure(files, info, "f32", pixels, quantities)]
        if recipe.serving == "best":
            quantise(files, prepared.pixels.cache.read(data.train.rows[:: max(1, len(data.train) // 128)]))
            # Where a CPU has to imitate bf16 it is slower than f32.
            native = processes.device.type == "cpu" and computes_in_bf16("auto", processes.device)
            others: tuple[Precision, ...] = ("bf16", "int8") if native else ("int8",)
            measured += [measure(files, info, other, pixels, quantities) for other in others]
        precision = choose(measured)
        chosen = next(one for one in measured if one.precision == precision)
        out_of_range = _out_of_range(chosen, quantities, job.max_count)
        info = info.model_copy(
            update={
                "precision": precision,
                "runtime": "openvino" if precision == "bf16" else "auto",
                "metrics": info.metrics | {f"accuracy_{one.precision}": one.accuracy for one in measured},
                "drift_baseline": DriftBaseline.of(chosen.scores, chosen.out_of_range),
            }
        )
        if precision != "int8":
            (files / INT8_FILE).unlink(missing_ok=True)
        bundle = write_bundle(folder, info, files)
    return Result(fitted, bundle, measured, out_of_range, difference)


def _record_model(fitted: Fitted) -> RecordModel:
    """What records say of bins, and what photos add: of a network that knows empty bins and full ones."""
    data, job = fitted.prepared.data, fitted.prepared.job
    judged = Known([*data.validation.records, *data.extra.records], fitted.held_out_classes)
    return fit_record_model(data.told.records, judged, job.max_count, job.seed)


def _info(fitted: Fitted) -> BundleInfo:
    prepared, job = fitted.prepared, fitted.prepared.job
    truth = prepared.data.validation.quantities
    return BundleInfo(
        backbone=job.recipe.backbone,
        image_size=job.recipe.image_size,
        max_count=job.max_count,
        has_out_of_range=prepared.classes.with_extra,
        has_empty_and_more=prepared.classes.with_extra,
        temperature=fitted.calibration.temperature,
        class_biases=fitted.calibration.biases,
        recipe=job.recipe.name,
        recipe_fields=job.recipe.model_dump(mode="json"),
        initial_weights=prepared.backbone.origin,
        seed=job.seed,
        training_images=len(prepared.data.train),
        data_fingerprint=prepared.data.index.digest,
        training_ids_digest=prepared.data.training_ids_digest,
        metrics={
            "validation_loss": fitted.validation_loss,
            "validation_accuracy": fitted.validation_accuracy,
            "ece_before_calibration": calibration_error(truth, fitted.raw_scores),
            "ece": calibration_error(truth, fitted.held_out_scores),
            "ece_if_calibrated": error_if_calibrated(fitted.held_out_scores),
        },
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    """Versions of what a model's weights and graph depend on: packages, and Python's."""
    return {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES}


def _out_of_range(chosen: Measured, quantities: NDArray[np.int64], max_count: int) -> OutOfRangeFigures | None:
    if chosen.out_of_range is None:
        return None
    return out_of_range_figures((quantities < 1) | (quantities > max_count), chosen.out_of_range.astype(np.float64))


def _compare_extra(fitted: Fitted, processes: Processes) -> ExtraComparison:
    """Train once more, without the extra bins."""
    prepared = fitted.prepared
    quantities = prepared.data.train.quantities
    extra = int(((quantities < 1) | (quantities > prepared.job.max_count)).sum())
    if processes.leads:
        print("training once more without the extra bins, to see whether they helped", flush=True)
    second = prepare(without_extra(prepared.job, len(quantities), extra), processes)
    return compare(fitted, fit(second, processes))


def train(job: Job, outputs: Outputs, processes: Processes) -> Result | None:
    """The whole step; only the leading process of several has a result."""
    with Log(outputs.logs if processes.leads else None) as log:
        prepared = prepare(job, processes)
        if processes.leads:
            announce(prepared)
        fitted = fit(prepared, processes, log.epoch if processes.leads else lambda _: None)
        extra = _compare_extra(fitted, processes) if job.recipe.compare_extra else None
        if not processes.leads:
            return None
        result = replace(finish(fitted, outputs.bundle, processes), extra=extra)
        draw_curves(fitted.outcome.history, outputs.curves)
        write_report(result, outputs.report)
        if outputs.history is not None:
            write_history(fitted.outcome, outputs.history)
        summarise(result)
    return result
