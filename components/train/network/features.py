"""Frozen features: the backbone runs once over all photos, and every head and trial trains on what it gave."""

import hashlib
import io
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from components.core.bundle import Precision
from components.core.code import code_digest
from components.core.errors import UserError
from components.core.files import written_whole
from components.core.layout import STATE_PREFIX
from components.core.pixel_cache import PixelCache, cache_folder
from components.core.runtime import open_onnx
from components.core.shards import ShardIndex
from components.core.store import ObjectMissing, open_store
from components.train.network.backbones import Backbone
from components.train.network.export import export_onnx, predict
from components.train.network.model import Normalise

_BATCH = 32
_OUTPUT = "features"
# What computes features, by device: another version may round differently.
_RUNTIMES = {"cpu": ("openvino",), "cuda": ("torch",)}
# Larger tables stay on the machine that computed them.
_SHARED_BYTES = 1 << 30


def frozen_features(
    backbone: Backbone,
    index: ShardIndex,
    cache: PixelCache,
    device: torch.device,
    precision: Precision = "f32",
    shared: str = "",
) -> NDArray[np.float32]:
    """Features N×F of all photos in the cache's order.

    Looked for in the local cache, then in the bucket `shared` ("" for none), else computed (OpenVINO in `precision` on
    a CPU, torch in f32 on a GPU) and put into both.
    """
    made_by = f"{code_digest(_compute)} {cache.made_by} {' '.join(version(name) for name in _RUNTIMES[device.type])}"
    computed = f"{backbone.digest} {index.digest} {cache.size} {device.type} {precision} {made_by}"
    key = hashlib.sha256(computed.encode()).hexdigest()[:32]
    path = cache_folder() / "features" / f"{key}.npy"
    if not path.is_file() and not _fetch(shared, key, path):
        _write(path, _compute(backbone, cache, device, precision))
        _share(shared, key, path)
    os.utime(path)  # a use, for whoever clears away what is old
    features: NDArray[np.float32] = np.load(path)
    return features


def _compute(backbone: Backbone, cache: PixelCache, device: torch.device, precision: Precision) -> NDArray[np.float32]:
    features = np.empty((len(cache.rows), backbone.features), np.float32)
    network = nn.Sequential(Normalise(backbone.mean, backbone.std), backbone.network)
    with tempfile.TemporaryDirectory() as folder:
        run = _runner(network, cache.size, device, precision, Path(folder) / "backbone.onnx")

        def compute(start: int) -> None:
            rows = np.arange(start, min(start + _BATCH, len(features)))
            features[rows] = run(cache.read(rows))

        starts = range(0, len(features), _BATCH)
        # A stream a core needs no waiting between cores, as threads that share one batch do.
        with ThreadPoolExecutor(_streams() if device.type == "cpu" else 1) as pool:
            list(tqdm(pool.map(compute, starts), total=len(starts), desc="features", unit="batch", mininterval=2))
    return features


def _runner(
    network: nn.Module, size: int, device: torch.device, precision: Precision, path: Path
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    if device.type == "cuda":
        return lambda pixels: predict(network, pixels, device)[0]
    export_onnx(network, size, path, (_OUTPUT,))
    graph = open_onnx(path, precision, None, (_OUTPUT,), streams=_streams())
    return lambda pixels: graph(pixels)[0]


def _streams() -> int:
    return os.cpu_count() or 1


def _write(path: Path, features: NDArray[np.float32]) -> None:
    with written_whole(path) as partial, partial.open("wb") as file:
        np.save(file, features)


def _key(key: str) -> str:
    return f"{STATE_PREFIX}train/features/{key}.npy"


def _fetch(shared: str, key: str, path: Path) -> bool:
    if not shared:
        return False
    try:
        data = open_store(shared).get(_key(key))
    except ObjectMissing:
        return False
    _write(path, np.load(io.BytesIO(data)))
    return True


def _share(shared: str, key: str, path: Path) -> None:
    if not shared or path.stat().st_size > _SHARED_BYTES:
        return
    try:
        open_store(shared).put(_key(key), path.read_bytes())
    except UserError as error:
        print(f"The features stay on this machine: {error}", flush=True)
