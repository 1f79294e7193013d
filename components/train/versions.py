"""Versions of what a model's weights and graph depend on."""

import platform
from importlib.metadata import version

_PACKAGES = ("torch", "torchvision", "timm", "onnx", "openvino", "nncf", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Package versions, and Python's."""
    return {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES}
