"""What is trained on: subsets of the splits joined with the decoded photos."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.core.contents import BinRecord
from components.core.errors import UserError
from components.core.pixel_cache import PixelCache
from components.core.records import read_splits
from components.core.shards import ShardIndex

# Photos are kept on the GPU when they take no more than this share of its free memory.
_GPU_SHARE = 0.5


@dataclass(frozen=True)
class Subset:
    """Bins of one use: ids, their rows in the decoded photos, their quantities (int64 N each), and their records."""

    ids: list[str]
    rows: NDArray[np.int64]
    quantities: NDArray[np.int64]
    records: tuple[BinRecord, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, number: int, seed: int) -> "Subset":
        """`number` of the bins, drawn by seed; a larger draw holds the smaller one."""
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:number])
        return self.at(chosen)

    def at(self, places: NDArray[np.int64]) -> "Subset":
        """The bins at these places."""
        return Subset(
            [self.ids[place] for place in places],
            self.rows[places],
            self.quantities[places],
            tuple(self.records[place] for place in places),
        )


@dataclass(frozen=True)
class TrainingData:
    """The subsets that train uses. Extra bins that are learned from are in `train`; `extra` holds those of validation
    blocks, which are judged by and seen as a camera sends them whether or not any are learned from. `told` are all
    bins of training blocks, of every count: what records say is learned from them."""

    index: ShardIndex
    train: Subset
    validation: Subset
    extra: Subset
    told: Subset
    missing: int
    digest: str  # over ids, quantities and subsets

    def limited(self, number: int, seed: int) -> "TrainingData":
        """The same with `number` training bins, drawn by seed."""
        return replace(self, train=self.train.first(number, seed))

    @property
    def training_ids_digest(self) -> str:
        """SHA-256 over the sorted ids that the weights are fitted on."""
        return hashlib.sha256("\n".join(sorted(self.train.ids)).encode()).hexdigest()


def join(index: ShardIndex, splits: str | Path, cache: PixelCache, use_extra: bool, max_count: int) -> TrainingData:
    """Join the splits with the decoded photos. Bins whose photo was rejected are counted as missing.

    Raises UserError when nothing can be trained on: no photos in common, one count only, no validation bins.
    """
    table = read_splits(splits)
    known = table["image_id"].isin(cache.rows.keys())
    table, missing = table[known], int((~known).sum())
    ids, quantities = table["image_id"].tolist(), table["quantity"].to_numpy(np.int64)
    rows = np.array([cache.rows[image_id] for image_id in ids], np.int64)
    names, sides = table["subset"].to_numpy(str), table["block_subset"].to_numpy(str)
    extra = names == "extra"

    records = tuple(map(BinRecord.decode, table["quantity"].tolist(), table["product_list"]))
    every = Subset(ids, rows, quantities, records)

    def subset(chosen: NDArray[np.bool_]) -> Subset:
        return every.at(np.flatnonzero(chosen))

    training = subset((names == "train") | (extra & (sides == "train") & use_extra))
    digest = hashlib.sha256(
        "\n".join(" ".join(map(str, row)) for row in zip(ids, quantities, names, sides, strict=True)).encode()
    ).hexdigest()
    data = TrainingData(
        index,
        training,
        subset(names == "validation"),
        subset(extra & (sides == "validation")),
        subset(sides == "train"),
        missing,
        digest,
    )
    _check(data, max_count)
    return data


def _check(data: TrainingData, max_count: int) -> None:
    if not len(data.train):
        raise UserError("No training bin has a photo in the shards; the shard index does not belong to these splits.")
    if not len(data.validation):
        raise UserError("The splits hold no validation bins; use more bins or a larger validation share.")
    counts = set(np.unique(data.train.quantities)) & set(range(1, max_count + 1))
    if len(counts) < 2:
        raise UserError(f"All training bins hold the same count ({counts}); train needs bins of at least two counts.")


class Source(Protocol):
    """Gives the inputs of samples by their row, on the training device."""

    def gather(self, rows: NDArray[np.int64]) -> Tensor:
        """Inputs of these rows, in their order."""
        ...


class PixelSource:
    """Decoded photos from the local file, uint8 n×S×S×3; held on the GPU where they fit."""

    def __init__(self, cache: PixelCache, device: torch.device) -> None:
        self.cache = cache
        self.device = device
        self.resident: Tensor | None = None
        if device.type == "cuda" and cache.pixels.nbytes < _GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.resident = torch.empty(cache.pixels.shape, dtype=torch.uint8, device=device)
            for start in range(0, len(cache.rows), 4096):
                stop = min(start + 4096, len(cache.rows))
                self.resident[start:stop] = torch.from_numpy(cache.read(np.arange(start, stop))).to(device)

    def gather(self, rows: NDArray[np.int64]) -> Tensor:
        """Photos of these rows."""
        if self.resident is not None:
            return self.resident[torch.from_numpy(rows).to(self.device)]
        pixels = torch.from_numpy(self.cache.read(rows))
        if self.device.type == "cuda":
            return pixels.pin_memory().to(self.device, non_blocking=True)
        return pixels


class FeatureSource:
    """Features computed once, float N×F, held on the device."""

    def __init__(self, features: NDArray[np.float32], device: torch.device) -> None:
        self.features = torch.from_numpy(features).to(device)

    def gather(self, rows: NDArray[np.int64]) -> Tensor:
        """Features of these rows."""
        return self.features[torch.from_numpy(rows).to(self.features.device)]
