"""Optimisers, the course of the learning rate, and the precision that is computed in."""

import math
from typing import Literal

import torch
from torch import nn

from components.train.recipes import Recipe


def create_optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser; biases and normalisation are not decayed, the backbone may have a lower rate.

    The last group is the head's.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    head = {id(parameter) for name, parameter in model.named_parameters() if "network" not in name.split(".")[0]}
    for parameter in model.parameters():
        groups.setdefault((id(parameter) in head, parameter.ndim > 1), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": recipe.learning_rate * (1.0 if of_head else recipe.backbone_rate),
            "weight_decay": recipe.weight_decay if decayed else 0.0,
        }
        for (of_head, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    if recipe.optimiser == "adadelta":
        return torch.optim.Adadelta(settings, recipe.learning_rate)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(settings, recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    return torch.optim.AdamW(settings, recipe.learning_rate, fused=True)


def learning_rate_at(recipe: Recipe, step: int, steps: int) -> float:
    """Share of the learning rate at a step: a linear warm-up, then constant or half a cosine down to 0."""
    warmup = math.ceil(recipe.warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def computes_in_bf16(choice: Literal["auto", "bf16", "f32"], device: torch.device) -> bool:
    """Whether to compute in bf16; auto says yes where the hardware multiplies bf16 natively."""
    if choice != "auto":
        return choice == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and torch.cpu._is_avx512_bf16_supported()
