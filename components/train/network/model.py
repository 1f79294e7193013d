"""The counting network: photo, backbone, linear head, logits of quantity classes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

from components.train.network.backbones import Backbone


@dataclass(frozen=True)
class Classes:
    """What the head's logits stand for.

    Without extra bins: the counts 1…max_count. With them: 0, 1…max_count, and one class for more.
    """

    max_count: int
    with_extra: bool

    @property
    def first(self) -> int:
        """The quantity of class 0."""
        return 0 if self.with_extra else 1

    @property
    def number(self) -> int:
        """How many classes there are."""
        return self.max_count + 2 if self.with_extra else self.max_count

    def of_quantity(self, quantities: Tensor) -> Tensor:
        """Class of each quantity, int64; more than max_count falls into the last class."""
        return (quantities - self.first).clamp(max=self.number - 1)

    def in_range(self, logits: Tensor) -> Tensor:
        """The columns of the counts 1…max_count."""
        return logits[:, 1 - self.first : 1 - self.first + self.max_count]

    def outside(self, probabilities: Tensor) -> Tensor:
        """Columns N×2 of 0 and of more than max_count; only with extra bins."""
        return torch.stack([probabilities[:, 0], probabilities[:, -1]], 1)


class Normalise(nn.Module):
    """uint8 pixels N×S×S×3 to normalised N×3×S×S; the permuted view already lies in channels-last order."""

    scale: Tensor
    offset: Tensor

    def __init__(self, mean: Iterable[float], std: Iterable[float]) -> None:
        super().__init__()
        means, deviations = (torch.tensor(list(values)).view(1, 3, 1, 1) for values in (mean, std))
        self.register_buffer("scale", 1 / (255 * deviations), persistent=False)
        self.register_buffer("offset", -means / deviations, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise."""
        return pixels.permute(0, 3, 1, 2).float() * self.scale + self.offset


class Head(nn.Module):
    """Features N×F, shifted and scaled by fixed numbers where given, to logits N×classes."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, classes)

    def standardise(self, features: NDArray[np.float32]) -> None:
        """Bring every feature to mean 0 and deviation 1 over these samples.

        One that hardly varies is scaled by a tenth of what is usual: on few samples it would be all noise.
        """
        deviation = features.std(0)
        self.mean.copy_(torch.from_numpy(features.mean(0)))
        self.deviation.copy_(torch.from_numpy(np.maximum(deviation, 0.1 * deviation.mean() + 1e-6)))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of features."""
        return self.linear(self.dropout((features - self.mean) / self.deviation))


class Counter(nn.Module):
    """Backbone and head together, on normalised photos; where `mirrored`, it answers by their mirror images too."""

    def __init__(self, backbone: Backbone, head: Head, mirrored: bool = False) -> None:
        super().__init__()
        self.network = backbone.network
        self.head = head
        self.mirrored = mirrored

    def forward(self, photos: Tensor) -> Tensor:
        """Logits N×classes of normalised photos N×3×S×S."""
        logits = self.head(self.network(photos).float())
        if self.mirrored and not self.training:
            logits = (logits + self.head(self.network(photos.flip(3)).float())) / 2
        return logits


@dataclass(frozen=True)
class Calibration:
    """What turns logits of all classes into probabilities: softmax(logits / temperature + biases)."""

    temperature: float
    biases: tuple[float, ...]

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities N×classes."""
        return softmax(logits / self.temperature + np.array(self.biases), axis=1).astype(np.float64)


class Served(nn.Module):
    """The graph that is served: pixels uint8 N×S×S×3 to probabilities N×max_count of the counts 1…max_count, given that
    it is one of them; with extra classes also the probability N that the bin holds 0 or more than max_count, and N×2
    of these two apart, empty and more."""

    biases: Tensor

    def __init__(self, normalise: Normalise, counter: nn.Module, classes: Classes, calibration: Calibration) -> None:
        super().__init__()
        self.normalise, self.counter, self.classes = normalise, counter, classes
        self.temperature = calibration.temperature
        self.register_buffer("biases", torch.tensor(calibration.biases), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Probabilities of pixels."""
        logits = self.counter(self.normalise(pixels)) / self.temperature + self.biases
        scores = torch.softmax(self.classes.in_range(logits), 1)
        if not self.classes.with_extra:
            return scores
        outside = self.classes.outside(torch.softmax(logits, 1))
        return scores, outside.sum(1), outside
