"""The goals of training that need a data-centre GPU, part `gpu` of benchmarks.train.

Every function takes the device, so that `python -m benchmarks.train gpu --quick` shows on a CPU that they work.
"""

import json
import os
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.machine import machine
from benchmarks.train_plain import Photos
from benchmarks.workbench import Bins, Row
from components.core.defaults import BACKBONE
from components.core.recipe import Recipe, choose_recipe
from components.train.job import Job, Prepared
from components.train.loop.batches import epoch_order, share_of
from components.train.loop.checkpoint import Checkpoints
from components.train.loop.distributed import Processes
from components.train.loop.training import Training
from components.train.network.backbones import create_backbone
from components.train.network.model import Counter, Head
from components.train.train import prepare

LOOP = "`finetune`, one data-centre GPU: whole loop against the same step on one batch on the GPU"
FIRST_EPOCH = "the same against a plain DataLoader and Pillow loop with all cores, first epoch"
ORIGINAL = "`original` recipe on the size of the original, one data-centre GPU, from shards to bundle"
GOALS = {LOOP: "at least 0.9", FIRST_EPOCH: "at least 1.5 times", ORIGINAL: "under 15 s"}
BATCH, EPOCHS = 256, 3


def rows(bins: Bins, device: torch.device, steps: int, original_seconds: float) -> list[Row]:
    """The goals, on these bins; the original's recipe, which others know to run, took so many seconds."""
    rates = finetune_rates(bins, device, steps)
    plain = plain_rate(bins.photos("train"), device)
    loop, first = rates.last_epoch / rates.step, rates.first_epoch / plain
    results = {
        LOOP: (f"{rates.last_epoch:,.0f}/s of {rates.step:,.0f}/s: {loop:.2f} ({machine()})", loop >= 0.9),
        FIRST_EPOCH: (f"{rates.first_epoch:,.0f}/s against {plain:,.0f}/s: {first:.1f} times", first >= 1.5),
        ORIGINAL: (f"{original_seconds:.1f} s (the original on a T4: 1,059 s)", original_seconds < 15),
    }
    return [Row(what=what, result=result, goal=GOALS[what], met=met) for what, (result, met) in results.items()]


@dataclass(frozen=True)
class Rates:
    """Images a second: of the loop in its first epoch (decoding included) and its last, and of its step alone."""

    first_epoch: float
    last_epoch: float
    step: float


def finetune_rates(bins: Bins, device: torch.device, steps: int) -> Rates:
    """Our finetune loop at one size, and the same step on one batch that is already on the device."""
    start = time.perf_counter()
    prepared = prepare(Job(bins.index, bins.splits, _recipe(), 5), Processes(0, 1, device))
    history = _training(prepared, device).run().history
    seconds = time.perf_counter() - start
    first, last = history[0], history[-1]
    # Everything that is not in a later epoch: fetching, decoding, the first epoch and its warming up.
    of_first = seconds - sum(record.seconds + record.times.get("validate", 0) for record in history[1:])
    return Rates(first.images / of_first, last.images / last.seconds, _step_rate(prepared, device, steps))


def plain_rate(photos: list[tuple[bytes, int]], device: torch.device) -> float:
    """Images a second of a plain loop in its first epoch: DataLoader on all cores, Pillow, eager f32."""
    size = choose_recipe("finetune").image_size
    backbone = create_backbone(BACKBONE)
    model = Counter(backbone, Head(backbone.features, 5)).train().to(device)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    loader = DataLoader(
        Photos(photos, backbone, size),
        BATCH,
        shuffle=True,
        num_workers=os.cpu_count() or 1,
        pin_memory=device.type == "cuda",
    )
    start = time.perf_counter()
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    _wait(device)
    return len(photos) / (time.perf_counter() - start)


def _recipe() -> Recipe:
    # One size in all epochs, the one that is served: otherwise the epochs could not be compared.
    fields = {"batch_size": BATCH, "small_epochs_share": 0, "training_scale": 1, "use_extra": False}
    return choose_recipe("finetune", epochs=EPOCHS, overrides=json.dumps(fields))


def _training(prepared: Prepared, device: torch.device) -> Training:
    model = Counter(prepared.backbone, prepared.head)
    processes = Processes(0, 1, device)
    return Training(
        prepared.job.recipe, model, prepared.classes, prepared.inputs, 0, processes, Checkpoints("", {}, 60.0)
    )


def _step_rate(prepared: Prepared, device: torch.device, steps: int) -> float:
    training = _training(prepared, device)
    batch = epoch_order(len(prepared.data.train), 0, 0)[: training.batch_size]
    inputs = prepared.pixels.gather(prepared.data.train.rows[batch])
    training._set_train_mode()
    for step in range(steps + 3):
        if step == 3:  # the first ones warm up
            _wait(device)
            start = time.perf_counter()
        training._step(inputs, batch, share_of(len(batch), 0, 1), step)
    _wait(device)
    return steps * len(batch) / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
