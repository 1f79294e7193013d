"""Augmentation of a whole batch on its device.

No transform cuts anything away: a photo only shrinks, turns and moves inside its frame.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from components.core.recipe import Recipe


@dataclass(frozen=True)
class Draw:
    """What was drawn for N samples: geometry N×2×3, brightness and contrast factors N; None is off."""

    geometry: Tensor | None
    brightness: Tensor | None
    contrast: Tensor | None

    def part(self, part: slice) -> "Draw":
        """The draws of some samples of the batch."""
        return Draw(*(None if value is None else value[part] for value in vars(self).values()))

    def to(self, device: torch.device) -> "Draw":
        """The same on another device."""
        return Draw(*(None if value is None else value.to(device) for value in vars(self).values()))


def draw(recipe: Recipe, number: int, generator: torch.Generator) -> Draw:
    """Draw the augmentation of `number` samples. It depends on the recipe and the generator only."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(number, generator=generator)

    geometry = None
    if recipe.flip or recipe.shift or recipe.rotation:
        mirror = torch.where(uniform(0, 1) < (0.5 if recipe.flip else 0.0), -1.0, 1.0)
        geometry = _geometry(
            mirror,
            angle=uniform(-1, 1) * math.radians(recipe.rotation),
            shrink=uniform(1 - recipe.shift, 1),
            move_x=uniform(-1, 1),
            move_y=uniform(-1, 1),
        )
    brightness = uniform(1 - recipe.brightness, 1 + recipe.brightness) if recipe.brightness else None
    contrast = uniform(1 - recipe.brightness, 1 + recipe.brightness) if recipe.brightness else None
    return Draw(geometry, brightness, contrast)


def _geometry(mirror: Tensor, angle: Tensor, shrink: Tensor, move_x: Tensor, move_y: Tensor) -> Tensor:
    """Matrices N×2×3 from a place in the new photo to one in the old, both in -1…1.

    A square turned by `angle` needs |cos|+|sin| times its side, so it is shrunk by that as well, and it then moves only
    by what is left: every point of the old photo stays visible.
    """
    scale = shrink / (angle.cos().abs() + angle.sin().abs())
    room = 1 - shrink
    cos, sin = angle.cos() / scale, angle.sin() / scale
    x, y = move_x * room, move_y * room
    first = torch.stack([mirror * cos, mirror * sin, -mirror * (cos * x + sin * y)], 1)
    second = torch.stack([-sin, cos, sin * x - cos * y], 1)
    return torch.stack([first, second], 1)


def apply(photos: Tensor, draws: Draw) -> Tensor:
    """Augment photos N×3×S×S, float in 0…255. What a smaller photo leaves free repeats its border."""
    if draws.geometry is not None:
        grid = functional.affine_grid(draws.geometry, list(photos.shape), align_corners=False)
        photos = functional.grid_sample(photos, grid, padding_mode="border", align_corners=False)
    if draws.brightness is not None and draws.contrast is not None:
        mean = photos.mean((1, 2, 3), keepdim=True)
        contrast, brightness = (value.view(-1, 1, 1, 1) for value in (draws.contrast, draws.brightness))
        photos = (((photos - mean) * contrast + mean) * brightness).clamp(0, 255)
    return photos
