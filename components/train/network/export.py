"""From trained weights to the bundle's graph: ONNX, and the check against torch."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.core.bundle import OUT_OF_RANGE_OUTPUT, OUTSIDE_OUTPUT, PIXELS_INPUT, SCORES_OUTPUT
from components.core.errors import UserError

OPSET = 18
CHECKED_IMAGES = 64
TOLERANCE = 1e-3
# Larger batches gain nothing on a CPU, and their activations take a gigabyte.
_BATCHES = {"cpu": 16, "cuda": 64}


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """On a GPU cuDNN rounds the operands of a convolution in f32 to TF32's ten bits, unless it is told not to."""
    convolutions = cast(Any, torch.backends.cudnn).conv  # made when torch starts, so that types do not know it
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


@torch.no_grad()
@_exact_convolutions()
def predict(model: nn.Module, pixels: NDArray[np.uint8], device: torch.device) -> list[NDArray[np.float32]]:
    """Outputs of a module on photos uint8 N×S×S×3 in f32, one array an output."""
    model.eval().to(device)
    found: list[tuple[Tensor, ...]] = []
    for batch in _batches(pixels, _BATCHES[device.type]):
        output = model(torch.from_numpy(batch).to(device))
        found.append(output if isinstance(output, tuple) else (output,))
    return [torch.cat(parts).float().cpu().numpy() for parts in zip(*found, strict=True)]


def _batches(pixels: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    return (np.asarray(pixels[start : start + size]) for start in range(0, len(pixels), size))


def export_onnx(model: nn.Module, size: int, path: Path, outputs: tuple[str, ...]) -> None:
    """Write a module that takes `pixels` uint8 N×S×S×3 as ONNX, for batches of any size."""
    model = model.eval().cpu().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The exporter by torch.export (dynamo=True) gives the same outputs, but takes 10 s instead of 0.6 s.
        torch.onnx.export(
            model,
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[PIXELS_INPUT],
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} for name in (PIXELS_INPUT, *outputs)},
        )


def served_outputs(has_out_of_range: bool) -> tuple[str, ...]:
    """Names of a bundle's outputs, in order."""
    return (SCORES_OUTPUT, OUT_OF_RANGE_OUTPUT, OUTSIDE_OUTPUT) if has_out_of_range else (SCORES_OUTPUT,)


def check_against_torch(model: nn.Module, path: Path, pixels: NDArray[np.uint8], outputs: tuple[str, ...]) -> float:
    """Largest difference between ONNX and torch on up to 64 photos, both in f32 on the CPU, wherever it was trained.

    On another device the arithmetic differs too: on an H200, by 3e-3 for a ResNet that was exported well.

    Raises UserError when it is above 1e-3, because then the exported model would not be the trained one.
    """
    import onnxruntime

    pixels = np.asarray(pixels[:CHECKED_IMAGES])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [session.run(list(outputs), {PIXELS_INPUT: batch}) for batch in _batches(pixels, _BATCHES["cpu"])]
    given = [np.concatenate(part) for part in zip(*parts, strict=True)]
    wanted = predict(model, pixels, torch.device("cpu"))
    difference = max(float(np.abs(a - b).max()) for a, b in zip(given, wanted, strict=True))
    if not difference <= TOLERANCE:
        raise UserError(
            f"The exported graph differs from the trained network by {difference:.2g} (allowed: {TOLERANCE}); "
            "this backbone cannot be exported with these versions, choose another."
        )
    return difference
