"""The camera: turns a painted bin into a photo, with its own view, light, blur, noise and size."""

import io
import math

import numpy as np
from PIL import Image, ImageFilter

from drawn.drawing import FABRIC

# Widths and heights of the dataset's originals, in pixels.
SMALLEST, LARGEST = (315, 240), (785, 1069)


def take_photo(painted: Image.Image, rng: np.random.Generator) -> bytes:
    """A JPEG of the painted bin (RGB, any size), 315 to 785 pixels wide and 240 to 1,069 high."""
    image = painted.filter(_blur(rng))
    image = _look(_expose(image, rng), rng)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(80, 93)))
    return buffer.getvalue()


def _look(painted: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A slightly turned and shifted view, resampled to the photo's size."""
    width = int(np.clip(rng.normal(468, 85), SMALLEST[0], LARGEST[0]))
    height = int(np.clip(width * painted.height / painted.width * rng.uniform(0.96, 1.04), SMALLEST[1], LARGEST[1]))
    angle, zoom = math.radians(rng.normal(0, 0.8)), rng.uniform(0.95, 1.0)
    cos, sin = math.cos(angle) * zoom, math.sin(angle) * zoom
    sx, sy = painted.width / width, painted.height / height
    centre_x, centre_y = painted.width / 2 + rng.normal(0, 3), painted.height / 2 + rng.normal(0, 4)
    matrix = (
        cos * sx, -sin * sy, centre_x - cos * sx * width / 2 + sin * sy * height / 2,
        sin * sx, cos * sy, centre_y - sin * sx * width / 2 - cos * sy * height / 2,
    )  # fmt: skip
    return painted.transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=FABRIC
    )


def _expose(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Uneven light, a colour cast and the sensor's noise."""
    pixels = np.asarray(image).astype(np.float32)
    height, width, _ = pixels.shape
    across = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(rng.normal(0, 0.10))
    down = np.linspace(-1, 1, height, dtype=np.float32) * np.float32(rng.normal(-0.05, 0.10))
    light = np.float32(rng.uniform(0.78, 1.06)) * (1 + across[None, :] + down[:, None])
    cast = rng.normal(1, 0.018, 3).astype(np.float32)
    pixels += (pixels.mean(axis=2, keepdims=True) - pixels) * np.float32(0.2)  # the camera's colours are pale
    pixels *= light[..., None] * cast
    pixels += rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(1, 6))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _blur(rng: np.random.Generator) -> ImageFilter.GaussianBlur | ImageFilter.BoxBlur:
    """Mostly a little out of focus; sometimes the pod was still moving."""
    if rng.random() < 0.1:
        return ImageFilter.BoxBlur((float(rng.uniform(1, 4)), 0.5))
    return ImageFilter.GaussianBlur(float(rng.gamma(2, 0.4)))
