"""Which precision to serve with: the narrowest that costs no more than half a point of validation accuracy."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.core.bundle import INT8_FILE, MODEL_FILE, PIXELS_INPUT, Bundle, BundleInfo, Precision
from components.core.runtime import open_runtime, switch_telemetry_off

ALLOWED_LOSS = 0.005  # of accuracy
CALIBRATION_IMAGES = 128
_BITS: dict[Precision, int] = {"f32": 32, "bf16": 16, "int8": 8}
_BATCH = 8
_TIMED_BATCHES = 12


@dataclass(frozen=True)
class Measured:
    """A precision on the validation photos: accuracy, seconds a photo, and scores N×max_count."""

    precision: Precision
    accuracy: float
    seconds: float
    scores: NDArray[np.float32]
    out_of_range: NDArray[np.float32] | None


def choose(measured: list[Measured]) -> Precision:
    """The narrowest precision whose accuracy is at most half a point below f32, the first of the list.

    By its width and not by the seconds that were measured: those differ from run to run, and so would the choice.
    """
    allowed = [one for one in measured if one.accuracy >= measured[0].accuracy - ALLOWED_LOSS - 1e-9]
    return min(allowed, key=lambda one: _BITS[one.precision]).precision


def measure(
    files: Path, info: BundleInfo, precision: Precision, pixels: NDArray[np.uint8], quantities: NDArray[np.int64]
) -> Measured:
    """Run the graph lying in `files` through the runtime that will serve it.

    pixels uint8 N×S×S×3 and quantities N: validation bins; those out of range count for no accuracy.
    """
    runtime = open_runtime(Bundle(info, files), precision=precision)
    parts = [runtime.predict(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH)]
    scores = np.concatenate([part.scores for part in parts])
    extra = [part.out_of_range for part in parts if part.out_of_range is not None]
    judged = (quantities >= 1) & (quantities <= info.max_count)
    right = scores[judged].argmax(1) + 1 == quantities[judged]
    batch = np.ascontiguousarray(pixels[:_BATCH])
    times = []
    for _ in range(_TIMED_BATCHES):
        start = time.perf_counter()
        runtime.predict(batch)
        times.append(time.perf_counter() - start)
    return Measured(
        precision, float(right.mean()), float(np.median(times)) / len(batch), scores,
        np.concatenate(extra) if extra else None,
    )  # fmt: skip


def quantise(files: Path, pixels: NDArray[np.uint8]) -> None:
    """Write model-int8.onnx beside model.onnx: post-training quantisation, calibrated on up to 128 photos."""
    switch_telemetry_off()
    import nncf  # seconds to import, and only this needs it
    import onnx

    nncf.set_log_level(30)
    photos = [{PIXELS_INPUT: pixels[place : place + 1]} for place in range(min(len(pixels), CALIBRATION_IMAGES))]
    quantised = nncf.quantize(
        onnx.load(files / MODEL_FILE),
        nncf.Dataset(photos),
        subset_size=len(photos),
        preset=nncf.QuantizationPreset.MIXED,
    )
    onnx.save(quantised, files / INT8_FILE)
