"""Losses over quantity classes, plain and ordinal."""

import torch
from torch import Tensor
from torch.nn import functional

from components.train.recipes import Recipe


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
