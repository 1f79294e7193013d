"""Bundles to serve: real architectures, as train exports and quantises them, with an untrained head."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from components.core.bundle import MODEL_FILE, WEIGHTS_FILE, Bundle, BundleInfo, Precision, write_bundle
from components.train.network.backbones import create_backbone
from components.train.network.export import export_onnx, served_outputs
from components.train.network.model import Calibration, Classes, Counter, Head, Normalise, Served
from components.train.network.serving import quantise


def make_bundles(
    folder: Path, backbone: str, pixels: NDArray[np.uint8], precisions: tuple[Precision, ...]
) -> dict[Precision, Bundle]:
    """One bundle a precision. EfficientNet-Lite has its ImageNet weights, ResNet-18 random ones: speed is the same."""
    torch.manual_seed(0)
    source = create_backbone(backbone, "random" if backbone.startswith("resnet") else "")
    classes = Classes(5, with_extra=True)
    network = Counter(source, Head(source.features, classes.number))
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        served = Served(Normalise(source.mean, source.std), network, classes, Calibration(1.0, (0.0,) * 7))
        export_onnx(served, pixels.shape[1], files / MODEL_FILE, served_outputs(True))
        save_file(network.state_dict(), files / WEIGHTS_FILE)
        if "int8" in precisions:
            quantise(files, pixels)
        return {
            precision: write_bundle(
                folder / f"{backbone}-{precision}",
                BundleInfo(
                    backbone=backbone, image_size=pixels.shape[1], max_count=5, has_out_of_range=True,
                    precision=precision, temperature=1.0, recipe="benchmark", data_fingerprint="none",
                    training_ids_digest="none", validation_counts=(1, 1, 1, 1, 1),
                ),
                _needed(files, precision),
            )
            for precision in precisions
        }  # fmt: skip


def _needed(files: Path, precision: Precision) -> Path:
    copy = files.parent / f"{files.name}-{precision}"
    shutil.copytree(files, copy, dirs_exist_ok=True)
    return copy
