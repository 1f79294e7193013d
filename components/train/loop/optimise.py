"""What a step minimises and how: losses, plain and ordinal, optimisers, the course of the learning rate, the average of
the weights, and the precision that is computed in."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.core.recipe import Recipe


def soft_labels(classes: Tensor, number: int, width: float) -> Tensor:
    """Targets N×number that fall off with the distance to the true class, rows sum to 1.

    exp(-d²/2w²), normalised (Diaz and Marathe, Soft Labels for Ordinal Regression, CVPR 2019, with squared distance).
    """
    distance = torch.arange(number, device=classes.device) - classes[:, None]
    return torch.softmax(-(distance.float() ** 2) / (2 * width**2), dim=1)


def cumulative_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Ranked probability score N: squared error of the cumulative distribution (Epstein 1969), plus cross-entropy.

    The score alone trains slowly from an even start; the sum is ordinal and keeps calibrated probabilities.
    """
    number = logits.shape[1]
    reached = torch.softmax(logits, 1).cumsum(1)[:, :-1]
    wanted = (torch.arange(number - 1, device=classes.device) >= classes[:, None]).float()
    return ((reached - wanted) ** 2).sum(1) + functional.cross_entropy(logits, classes, reduction="none")


def losses(recipe: Recipe, logits: Tensor, classes: Tensor) -> Tensor:
    """Loss of each sample, N, for logits N×classes and true classes N."""
    if recipe.loss == "cross_entropy":
        return functional.cross_entropy(logits, classes, reduction="none")
    if recipe.loss == "soft_labels":
        target = soft_labels(classes, logits.shape[1], recipe.soft_label_width)
        return functional.cross_entropy(logits, target, reduction="none")
    return cumulative_loss(logits, classes)


def class_weights(counts: Tensor) -> Tensor:
    """Weights inverse to the classes' sizes, with a mean of 1 over the samples. An empty class gets 0."""
    used = counts > 0
    weights = torch.where(used, 1 / counts.clamp(min=1), torch.zeros(()))
    return weights * counts.sum() / used.sum()


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


class Average:
    """Exponential moving average of the weights; young averages forget faster, (1+n)/(10+n) at most."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.state = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = model.state_dict()
        floating = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in floating], [now[name] for name in floating], 1 - decay)

    def copy_to(self, model: nn.Module) -> None:
        """Give the model the averaged weights."""
        model.load_state_dict(self.state)

    def swap_in(self, model: nn.Module) -> dict[str, Tensor]:
        """The same, returning the weights that it had."""
        before = {name: value.clone() for name, value in model.state_dict().items()}
        self.copy_to(model)
        return before
