"""What leaves training is what was trained, whatever device computed it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.core.errors import UserError
from components.train.network.export import check_against_torch, export_onnx, predict

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
CPU = torch.device("cpu")
CUDNN: Any = torch.backends.cudnn


class Brightness(nn.Module):
    """Means of the channels; notes how convolutions would be computed on a GPU."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor, self.seen = factor, ""

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen = CUDNN.conv.fp32_precision
        return pixels.float().mean((1, 2)) * self.factor / 255


def test_what_is_called_f32_is_not_rounded_to_tf32_on_a_gpu_and_the_setting_is_given_back() -> None:
    before, model = CUDNN.conv.fp32_precision, Brightness()
    predict(model, PIXELS, CPU)
    assert model.seen == "ieee"
    assert CUDNN.conv.fp32_precision == before


def test_a_graph_that_is_another_network_is_refused_and_the_own_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(Brightness(), 32, path, ("scores",))
    assert check_against_torch(Brightness(), path, PIXELS, ("scores",)) < 1e-5
    with pytest.raises(UserError, match="differs from the trained network by 0"):
        check_against_torch(Brightness(1.01), path, PIXELS, ("scores",))
