"""A tiny real model and bins that it can count, for tests of what comes after training.

The photos are grey, and the brighter the more items: the model reads the mean brightness. `shift` makes it miscount.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file

from components.core.bundle import Bundle, BundleInfo, write_bundle
from components.core.drift import DriftBaseline
from components.core.posterior import RECORD_FILE, RecordModel
from components.core.records import write_splits
from components.core.seen import write_seen
from components.core.shards import Shard, ShardIndex, ShardWriter
from components.core.store import open_store

IMAGE_SIZE = 32
STEP = 30.0  # brightness an item adds


def write_small_bundle(
    folder: Path,
    shift: float = 0.0,
    max_count: int = 5,
    out_of_range: bool = True,
    sharpness: float = 0.01,
    seed: int = 0,
    seen: Sequence[str] | None = None,
    training_ids_digest: str = "0" * 64,
    data_fingerprint: str = "0" * 64,
) -> Bundle:
    """A bundle whose model says round(brightness / STEP - shift), the surer the larger `sharpness`.

    It tells which bins it has `seen`; with None it does not, as bundles did in the beginning.
    """
    files = folder.with_name(f"{folder.name}-files")
    files.mkdir(parents=True)
    if out_of_range:
        record_model(max_count).write(files / RECORD_FILE)
    onnx.save(_graph(shift, max_count, out_of_range, sharpness), files / "model.onnx")
    save_file({"centres": _centres(shift, max_count)}, files / "weights.safetensors")
    if seen is not None:
        write_seen(files, seen)
    info = BundleInfo(
        backbone="brightness",
        image_size=IMAGE_SIZE,
        max_count=max_count,
        has_out_of_range=out_of_range,
        has_empty_and_more=out_of_range,
        temperature=1.0,
        drift_baseline=DriftBaseline(
            counts=(9,) * max_count,
            counts_limit=20,
            out_of_range_mean=0.3 if out_of_range else None,
            out_of_range_deviation=0.4 if out_of_range else None,
        ),
        recipe="test",
        seed=seed,
        data_fingerprint=data_fingerprint,
        training_ids_digest=training_ids_digest,
    )
    return write_bundle(folder, info, files)


def record_model(max_count: int) -> RecordModel:
    """Records that are wrong now and then, and then say any other count; it looks at quantities alone."""
    classes = max_count + 2
    wrong = np.full((classes, max_count + 1), 1 / (max_count + 1))
    wrong[np.arange(max_count + 1), np.arange(max_count + 1)] = 0
    return RecordModel(
        max_count=max_count,
        prior=(1 / classes,) * classes,
        gamma=1.0,
        error_rate=0.05,
        wrong=tuple(map(tuple, wrong.tolist())),
    )


def photo(count: int, seed: int = 0) -> bytes:
    """A JPEG as bright as `count` items, a bit more or less by seed."""
    generator = np.random.default_rng(seed)
    level = STEP * count + generator.normal(0, 8)
    pixels = np.clip(generator.normal(level, 4, (40, 48, 3)), 0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95)
    return data.getvalue()


@dataclass(frozen=True)
class SmallData:
    """Where the index and the splits of a set of bins are."""

    index: Path
    splits: Path


def write_small_data(folder: Path, bins: int = 120, data_uri: str = "s3://bin-counter") -> SmallData:
    """Bins with 0 to 7 items in two shards of the running store; the first two thirds of the ids are for training."""
    folder.mkdir(parents=True, exist_ok=True)
    quantities = [place % 8 for place in range(bins)]
    ids = [f"{place:05d}" for place in range(1, bins + 1)]
    shards = [
        _write_shard(data_uri, list(zip(ids, quantities, strict=True))[part::2]) for part in range(2)
    ]  # interleaved, so that the order of the shards is not the order of the ids
    ShardIndex.of(data_uri, shards).write(folder / "index.json")
    block = ["train" if place < 2 * bins // 3 else "test" for place in range(bins)]
    subset = [part if 1 <= quantity <= 5 else "extra" for part, quantity in zip(block, quantities, strict=True)]
    splits = pd.DataFrame(
        {
            "image_id": ids,
            "quantity": quantities,
            "contents": ids,
            "subset": subset,
            "block_subset": block,
            "product_list": "",
        }
    )
    write_splits(folder / "splits.parquet", splits)
    return SmallData(folder / "index.json", folder / "splits.parquet")


def _write_shard(data_uri: str, bins: list[tuple[str, int]]) -> Shard:
    data = io.BytesIO()
    writer = ShardWriter(data)
    for image_id, quantity in bins:
        writer.add(image_id, photo(quantity, int(image_id)))
    digest = writer.close()
    key = f"shards/{digest}.tar"
    open_store(data_uri).put(key, data.getvalue())
    return Shard(key=key, sha256=digest, images=writer.images, bytes=writer.bytes)


def _centres(shift: float, max_count: int) -> np.ndarray:
    return (STEP * (np.arange(1, max_count + 1) + shift)).astype(np.float32)


def _graph(shift: float, max_count: int, out_of_range: bool, sharpness: float) -> onnx.ModelProto:
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "column": np.array([-1, 1], np.int64),
        "row": np.array([-1], np.int64),
        "centres": _centres(shift, max_count)[None],
        "sharpness": np.array(-sharpness, np.float32),
        "middle": np.array(STEP * (max_count + 1) / 2, np.float32),
        "half": np.array(STEP * max_count / 2, np.float32),
        "softness": np.array(0.2, np.float32),
        "nothing": np.array(0.0, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["brightness"]),
        helper.make_node("Sub", ["brightness", "centres"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["square"]),
        helper.make_node("Mul", ["square", "sharpness"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", max_count])]
    if out_of_range:
        nodes += [
            helper.make_node("Sub", ["mean", "middle"], ["off"]),
            helper.make_node("Abs", ["off"], ["away"]),
            helper.make_node("Sub", ["away", "half"], ["beyond"]),
            helper.make_node("Mul", ["beyond", "softness"], ["steep"]),
            helper.make_node("Sigmoid", ["steep"], ["flat"]),
            helper.make_node("Reshape", ["flat", "row"], ["out_of_range"]),
            helper.make_node("Less", ["off", "nothing"], ["is_dark"]),
            helper.make_node("Where", ["is_dark", "flat", "nothing"], ["empty"]),
            helper.make_node("Where", ["is_dark", "nothing", "flat"], ["more"]),
            helper.make_node("Reshape", ["empty", "column"], ["empty_column"]),
            helper.make_node("Reshape", ["more", "column"], ["more_column"]),
            helper.make_node("Concat", ["empty_column", "more_column"], ["empty_and_more"], axis=1),
        ]
        outputs.append(helper.make_tensor_value_info("out_of_range", TensorProto.FLOAT, ["batch"]))
        outputs.append(helper.make_tensor_value_info("empty_and_more", TensorProto.FLOAT, ["batch", 2]))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", IMAGE_SIZE, IMAGE_SIZE, 3])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "brightness", [pixels], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model
