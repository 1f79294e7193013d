"""The alternative to our `original` recipe: a plain torchvision loop, as tutorials write it."""

import io
import time
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from components.train.network.backbones import Backbone


@dataclass(frozen=True)
class PlainRun:
    """What a plain run took, and its answers (counts from 1) for the bins it was asked about."""

    seconds: float
    images: int
    answers: list[int]


class Photos(Dataset[tuple[Tensor, int]]):
    """JPEG files in memory, decoded by Pillow and squashed whenever they are asked for."""

    def __init__(self, photos: list[tuple[bytes, int]], backbone: Backbone, size: int) -> None:
        self.photos = photos
        self.transform = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.ToTensor(),
                transforms.Normalize(backbone.mean, backbone.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        data, quantity = self.photos[place]
        return self.transform(Image.open(io.BytesIO(data)).convert("RGB")), quantity - 1


def train_plainly(
    backbone: Backbone,
    train: list[tuple[bytes, int]],
    validation: list[tuple[bytes, int]],
    asked: list[tuple[bytes, int]],
    epochs: int,
    size: int = 224,
) -> PlainRun:
    """Frozen backbone, a new 5-way layer, cross-entropy, Adadelta 0.05, batch 32; the whole network every epoch."""
    torch.manual_seed(0)
    for parameter in backbone.network.parameters():
        parameter.requires_grad = False
    model = nn.Sequential(backbone.network, nn.Linear(backbone.features, 5))
    optimiser = torch.optim.Adadelta(model[1].parameters(), lr=0.05)
    loss_of = nn.CrossEntropyLoss()
    start = time.perf_counter()
    loaders = [
        DataLoader(Photos(photos, backbone, size), batch_size=32, shuffle=shuffled, num_workers=2)
        for photos, shuffled in ((train, True), (validation, False), (asked, False))
    ]
    for _ in range(epochs):
        model.train()
        for photos, labels in loaders[0]:
            optimiser.zero_grad()
            loss_of(model(photos), labels).backward()
            optimiser.step()
        _answers(model, loaders[1])
    seconds = time.perf_counter() - start
    return PlainRun(seconds, epochs * (len(train) + len(validation)), _answers(model, loaders[2]))


@torch.no_grad()
def _answers(model: nn.Module, loader: DataLoader[tuple[Tensor, int]]) -> list[int]:
    model.eval()
    return [int(answer) + 1 for photos, _ in loader for answer in model(photos).argmax(1)]
