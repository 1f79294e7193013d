"""From trained weights to the bundle's graph: ONNX, and the check against torch."""

import warnings
from collections.abc import Iterator
from pathlib import Path

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


@torch.no_grad()
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


def check_against_torch(
    model: nn.Module, path: Path, pixels: NDArray[np.uint8], outputs: tuple[str, ...], device: torch.device
) -> float:
    """Largest difference between ONNX (run in f32) and torch on up to 64 photos.

    Raises UserError when it is above 1e-3, because then the exported model would not be the trained one.
    """
    import onnxruntime

    pixels = np.asarray(pixels[:CHECKED_IMAGES])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [session.run(list(outputs), {PIXELS_INPUT: batch}) for batch in _batches(pixels, _BATCHES["cpu"])]
    given = [np.concatenate(part) for part in zip(*parts, strict=True)]
    wanted = predict(model, pixels, device)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(given, wanted, strict=True))
    if not difference <= TOLERANCE:
        raise UserError(
            f"The exported graph differs from the trained network by {difference:.2g} (allowed: {TOLERANCE}); "
            "this backbone cannot be exported with these versions, choose another."
        )
    return difference
