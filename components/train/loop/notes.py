"""What each step of the training found, kept on the device until it is worth fetching."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from components.train.loop.distributed import Processes
from components.train.network.model import Classes

_STEPS_AT_ONCE = 20


@dataclass(frozen=True)
class StepNote:
    """One step over the global batch: sums of (loss, samples, right counts, samples in range), loss, gradient norm."""

    sums: list[float]
    loss: float
    norm: float


class StepNotes:
    """The notes of the last steps."""

    def __init__(self, classes: Classes, processes: Processes) -> None:
        self.classes, self.processes = classes, processes
        # Fetching makes a GPU, or the other processes, wait: so not after every step there.
        self.at_once = 1 if processes.device.type == "cpu" and processes.number == 1 else _STEPS_AT_ONCE
        self.kept: list[Tensor] = []

    def add(self, loss: Tensor, each: Tensor, logits: Tensor, labels: Tensor, counted: bool, norm: Tensor) -> None:
        """Keep a step: its loss, the loss of each sample, logits (N x classes), labels (N), whether this process's
        samples count (or only fill up its share), and the gradient norm."""
        quantities, max_count = labels + self.classes.first, self.classes.max_count
        in_range = (quantities >= 1) & (quantities <= max_count)
        right = (self.classes.in_range(logits).argmax(1) + 1 == quantities) & in_range
        samples = torch.full((), len(labels), device=labels.device)
        sums = torch.stack([each.sum(), samples * counted, right.sum() * counted, in_range.sum() * counted])
        share_of_loss = loss.reshape(1) / self.processes.number
        self.kept.append(torch.cat([sums.double(), share_of_loss.double(), norm.double().reshape(1)]))

    @property
    def full(self) -> bool:
        """Whether it is time to fetch them."""
        return len(self.kept) >= self.at_once

    def fetched(self) -> Iterator[StepNote]:
        """The notes, over all processes, from the device; they are kept no longer."""
        if not self.kept:
            return
        notes = torch.stack(self.kept)
        self.kept.clear()
        norms = notes[:, 5].tolist()  # the same on every process
        totals = self.processes.sum(notes[:, :5].clone()).tolist()
        for (*sums, loss), norm in zip(totals, norms, strict=True):
            yield StepNote(sums, loss, norm)
