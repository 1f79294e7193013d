"""Networks and their first weights, built from the table of backbones."""

import hashlib
import importlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from components.core.backbones import LISTED, BackboneEntry, Channels, find_backbone
from components.core.errors import UserError
from components.core.place import local_file


@dataclass(frozen=True)
class Backbone:
    """A network from normalised photos N×3×S×S to features N×F, how to normalise for it, and whose weights it holds."""

    network: nn.Module
    features: int
    mean: Channels  # of pixels in 0…1, by channel
    std: Channels
    origin: str  # where the first weights came from
    digest: str  # SHA-256 of the first weights


class Library(Protocol):
    """What builds networks."""

    def build(self, name: str, pretrained: bool) -> nn.Module:
        """A network of this name, with its library's own weights or at random."""
        ...

    def normalisation(self, network: nn.Module) -> tuple[Channels, Channels]:
        """Mean and deviation of the pixels that a network was trained on, in 0…1."""
        ...

    def without_classifier(self, network: nn.Module) -> int:
        """Take the classifier off; returns the number of features that remain."""
        ...


class _Torchvision:
    def build(self, name: str, pretrained: bool) -> nn.Module:
        return torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)

    def normalisation(self, network: nn.Module) -> tuple[Channels, Channels]:
        raise NotImplementedError("torchvision's networks do not know their pixels; the table has to say")

    def without_classifier(self, network: nn.Module) -> int:
        features = cast(nn.Linear, network.fc).in_features
        network.fc = nn.Identity()
        return features


class _Timm:
    def build(self, name: str, pretrained: bool) -> nn.Module:
        return timm.create_model(name, pretrained=pretrained)

    def normalisation(self, network: nn.Module) -> tuple[Channels, Channels]:
        config = cast(dict[str, Channels], network.pretrained_cfg)
        return config["mean"], config["std"]

    def without_classifier(self, network: nn.Module) -> int:
        features = cast(int, network.num_features)
        cast(Any, network).reset_classifier(0)
        return features


LIBRARIES: dict[str, Library] = {"torchvision": _Torchvision(), "timm": _Timm()}


def create_backbone(name: str, weights: str = "") -> Backbone:
    """Create a backbone with its first weights.

    Looked for in this order: `weights` (a path or s3:// address of a .pth or .safetensors file), a packaged file, the
    hub's cache or download. `weights="random"` asks for a random start in so many words.
    Raises UserError for an unknown name and when the weights are nowhere.
    """
    entry = find_backbone(name)
    network = LIBRARIES[entry.library].build(name, pretrained=False)
    if weights == "random":
        return _finished(entry, network, "random")
    if weights:
        _fill(network, _read(weights), f"'{weights}'", name)
        return _finished(entry, network, weights)
    if entry.packaged is not None and (file := _packaged_file(entry)) is not None:
        _fill(network, _load(file), file.name, name)
        return _finished(entry, network, f"package {entry.packaged.package}")
    return _finished(entry, _from_hub(entry), "hub")


def _finished(entry: BackboneEntry, network: nn.Module, origin: str) -> Backbone:
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    library = LIBRARIES[entry.library]
    if entry.mean is None or entry.deviation is None:
        mean, deviation = library.normalisation(network)
    else:
        mean, deviation = entry.mean, entry.deviation
    features = library.without_classifier(network)
    return Backbone(network, features, mean, deviation, origin, digest.hexdigest())


def _fill(network: nn.Module, given: dict[str, Tensor], where: str, name: str) -> None:
    """Copy weights by name, or by order where the names differ but every shape fits."""
    own = network.state_dict()
    if own.keys() == given.keys():
        pairs = {key: given[key] for key in own}
    else:
        pairs = dict(zip(own, given.values(), strict=False))
    if len(given) != len(own) or any(own[key].shape != value.shape for key, value in pairs.items()):
        raise UserError(f"The weights in {where} do not fit the backbone '{name}'; give weights of that architecture.")
    network.load_state_dict(pairs)


def _read(weights: str) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        path = local_file(weights, Path(folder))
        if path is None:
            raise UserError(f"There are no weights at '{weights}'; give the place of a .pth or .safetensors file.")
        return _load(path)


def _load(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own errors for a file that is none of its kind
        raise UserError(f"The weights in '{path}' cannot be read; give a .pth or .safetensors file.") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"'{path}' holds no table of weights; give a saved state_dict.")
    return state


def _packaged_file(entry: BackboneEntry) -> Path | None:
    if entry.packaged is None:
        return None
    try:
        module = importlib.import_module(entry.packaged.package)
    except ImportError:
        return None
    path = Path(getattr(module, entry.packaged.finder).get_model_file_path())
    return path if path.is_file() else None


def _from_hub(entry: BackboneEntry) -> nn.Module:
    try:
        return LIBRARIES[entry.library].build(entry.name, pretrained=True)
    except Exception as error:  # whatever the hub's client raises: without weights there is nothing to start from
        packaged = next(name for name, other in LISTED.items() if other.packaged is not None)
        raise UserError(
            f"No weights for the backbone '{entry.name}' were found: none are packaged and the model hub cannot be "
            f"reached; give a file with weights=path/to/weights.pth (or s3://…), or take the backbone {packaged}."
        ) from error
