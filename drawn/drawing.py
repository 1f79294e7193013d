"""Paints a scene on a flat canvas: the fabric bin, the items, the straps across the front."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from drawn.products import Colour
from drawn.scene import Item, Scene

CANVAS_WIDTH = 360  # pixels across the inside of the bin
RIM = 0.13  # height of the fabric above and below the opening, as a share of the opening's width
FABRIC: Colour = (222, 189, 124)
INSIDE: Colour = (150, 127, 88)
LABEL_COLOURS: list[Colour] = [(196, 72, 60), (60, 70, 110), (150, 190, 215), (236, 170, 120), (225, 170, 170)]
THREAD: Colour = (194, 180, 164)
Points = Sequence[tuple[float, float]]


class Brush:
    """Draws in an item's own frame: u from 0 (left) to 1, v from 0 (base) to 1 (top)."""

    def __init__(self, draw: ImageDraw.ImageDraw, item: Item, scale: float, floor: float) -> None:
        self.draw = draw
        angle = math.radians(item.lean)
        self.cos, self.sin = math.cos(angle), math.sin(angle)
        self.x, self.y = item.x * scale, floor - item.y * scale
        self.width, self.height = item.width * scale, item.height * scale

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Canvas position of a point of the frame."""
        across, up = (u - 0.5) * self.width, v * self.height
        return self.x + across * self.cos + up * self.sin, self.y + across * self.sin - up * self.cos

    def polygon(self, points: Points, fill: tuple[int, ...], outline: Colour | None = None) -> None:
        """A filled shape given in the frame."""
        self.draw.polygon([self.at(u, v) for u, v in points], fill=fill, outline=outline)

    def rectangle(self, left: float, low: float, right: float, high: float, fill: tuple[int, ...]) -> None:
        """A filled rectangle given in the frame."""
        self.polygon([(left, low), (right, low), (right, high), (left, high)], fill)

    def line(self, points: Points, fill: tuple[int, ...], width: int = 1) -> None:
        """A line given in the frame, `width` in pixels."""
        self.draw.line([self.at(u, v) for u, v in points], fill=fill, width=width)


def paint(scene: Scene) -> Image.Image:
    """The bin seen straight from the front: RGB, CANVAS_WIDTH wide, as high as the bin's shape asks for."""
    scale = CANVAS_WIDTH / scene.width
    rim = round(CANVAS_WIDTH * RIM)
    opening = round(scene.height * scale)
    image = Image.new("RGB", (CANVAS_WIDTH, opening + 2 * rim), INSIDE)
    draw = ImageDraw.Draw(image, "RGBA")
    floor = rim + opening
    _paint_inside(draw, rim, floor)
    for item in scene.items:
        _paint_item(draw, item, scale, floor)
    image = _paint_straps(image, scene.bands, rim, floor)
    _paint_fabric(image, scene, rim, floor)
    return image


def _paint_inside(draw: ImageDraw.ImageDraw, top: int, floor: int) -> None:
    """Walls and floor of the empty bin, darker towards the back."""
    side, depth, ceiling = 0.07 * CANVAS_WIDTH, 0.10 * (floor - top), 0.05 * (floor - top)
    right = CANVAS_WIDTH
    draw.polygon([(0, top), (side, top + ceiling), (side, floor - depth), (0, floor)], fill=shaded(INSIDE, 0.82))
    draw.polygon(
        [(right, top), (right - side, top + ceiling), (right - side, floor - depth), (right, floor)],
        fill=shaded(INSIDE, 0.9),
    )
    draw.polygon(
        [(0, floor), (side, floor - depth), (right - side, floor - depth), (right, floor)], fill=shaded(INSIDE, 1.1)
    )
    draw.rectangle([0, top, right, top + ceiling], fill=shaded(INSIDE, 0.72))


def _paint_item(draw: ImageDraw.ImageDraw, item: Item, scale: float, floor: float) -> None:
    brush = Brush(draw, item, scale, floor)
    brush.polygon([(-0.03, 0), (1.08, 0), (1.08, 0.93), (0.9, 1.0), (0.05, 0.98)], (30, 20, 10, 70))  # its shadow
    rng = np.random.default_rng(item.product.pattern)
    PAINTERS[item.product.kind](brush, item, rng)


def _paint_box(brush: Brush, item: Item, rng: np.random.Generator) -> None:
    colour, edge = item.product.colour, edge_of(item.product.colour)
    lid = min(0.14, 10 / brush.height)
    brush.polygon([(0, 1 - lid), (1, 1 - lid), (0.94, 1), (0.06, 1)], shaded(colour, 1.25), edge)
    brush.polygon([(0, 0), (1, 0), (1, 1 - lid), (0, 1 - lid)], colour, edge)
    style = rng.integers(3)
    if style == 0:  # tape along the middle
        brush.rectangle(0.44, 0.02, 0.56, 0.98 - lid, shaded(colour, 1.18))
    elif style == 1:  # a printed panel with a title
        low = rng.uniform(0.15, 0.5)
        brush.rectangle(0.08, low, 0.92, low + 0.28, item.product.accent)
        _paint_text(brush, rng, (0.16, low + 0.08, 0.8, low + 0.2), contrast(item.product.accent))
    if rng.random() < 0.8:
        _paint_sticker(brush, rng.uniform(0.1, 0.45), rng.uniform(0.1, 0.5), 0.36, 0.2)


def _paint_book(brush: Brush, item: Item, rng: np.random.Generator) -> None:
    colour, edge = item.product.colour, edge_of(item.product.colour)
    standing = item.height > item.width
    brush.polygon([(0, 0), (1, 0), (1, 1), (0, 1)], colour, edge)
    where = rng.uniform(0.1, 0.25)

    def band(start: float, end: float, fill: tuple[int, ...], inset: float = 0.0) -> None:
        if standing:
            brush.rectangle(inset, start, 1 - inset, end, fill)
        else:
            brush.rectangle(start, inset, end, 1 - inset, fill)

    band(where, where + 0.06, item.product.accent)
    band(0.97, 1.0, (224, 214, 190))
    band(where + 0.15, where + rng.uniform(0.4, 0.6), contrast(colour), 0.36)


def _paint_bottle(brush: Brush, item: Item, rng: np.random.Generator) -> None:
    colour, edge = item.product.colour, edge_of(item.product.colour)
    neck, shoulder = rng.uniform(0.2, 0.3), rng.uniform(0.66, 0.76)
    body = [(0.06, 0), (0.94, 0), (1, 0.05), (1, shoulder), (0.85, shoulder + 0.08), (1 - neck, 0.87),
            (neck, 0.87), (0.15, shoulder + 0.08), (0, shoulder), (0, 0.05)]  # fmt: skip
    brush.polygon(body, colour, edge)
    brush.polygon([(neck - 0.04, 0.86), (1.04 - neck, 0.86), (1.02 - neck, 1), (neck - 0.02, 1)],
                  item.product.accent, edge_of(item.product.accent))  # fmt: skip
    brush.rectangle(0.02, 0.2, 0.98, 0.55, (228, 224, 214) if rng.random() < 0.5 else item.product.accent)
    _paint_text(brush, rng, (0.2, 0.3, 0.8, 0.46), (60, 60, 60))
    brush.rectangle(0.12, 0.04, 0.22, shoulder, (255, 255, 255, 60))
    brush.rectangle(0.82, 0.02, 0.98, shoulder, (0, 0, 0, 50))


def _paint_bag(brush: Brush, item: Item, rng: np.random.Generator) -> None:
    colour, edge = item.product.colour, edge_of(item.product.colour)
    corners = [(0.02, 0.02), (0.5, 0), (0.98, 0.02), (1, 0.3), (0.95, 0.65), (0.9, 0.95), (0.6, 1), (0.3, 0.97),
               (0.08, 0.93), (0.05, 0.6), (0, 0.3)]  # fmt: skip
    outline = [(u + rng.normal(0, 0.025), v + rng.normal(0, 0.02)) for u, v in corners]
    brush.polygon(outline, colour, edge)
    for _ in range(6):  # creases
        u, v = rng.uniform(0.12, 0.85), rng.uniform(0.1, 0.8)
        du, dv = rng.normal(0, 0.08), rng.uniform(0.05, 0.22)
        light = rng.random() < 0.5
        tone = (255, 255, 255, 90) if light else (20, 15, 10, 60)
        brush.polygon([(u, v), (u + du, min(0.92, v + dv)), (u + du + 0.06, v + dv / 2)], tone)
    if rng.random() < 0.8:
        _paint_sticker(brush, rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.6), 0.3, 0.14)


PAINTERS = {"box": _paint_box, "book": _paint_book, "bottle": _paint_bottle, "bag": _paint_bag}


def _paint_sticker(brush: Brush, left: float, low: float, width: float, height: float) -> None:
    """A white label with a bar code."""
    brush.rectangle(left, low, left + width, low + height, (226, 222, 212))
    for bar in range(7):
        u = left + width * (0.12 + 0.11 * bar)
        brush.line([(u, low + height * 0.25), (u, low + height * 0.8)], (60, 55, 50), 1 + bar % 2)


def _paint_text(
    brush: Brush, rng: np.random.Generator, area: tuple[float, float, float, float], fill: tuple[int, ...]
) -> None:
    """Two bars that read as lines of print."""
    left, low, right, high = area
    third = (high - low) / 3
    brush.rectangle(left, low + 2 * third, left + (right - left) * rng.uniform(0.6, 1), high, fill)
    brush.rectangle(left, low, left + (right - left) * rng.uniform(0.4, 0.9), low + third, fill)


def _paint_straps(image: Image.Image, bands: list[tuple[float, float]], top: int, floor: int) -> Image.Image:
    """Elastic threads across the opening; `bands` are their upper and lower ends as shares of the opening."""
    pixels = np.asarray(image).astype(np.float32)
    rows = np.arange(pixels.shape[0])
    share = (rows - top) / (floor - top)
    cover = np.zeros(len(rows), np.float32)
    for high, low in bands:
        inside = (share > high) & (share < low)
        cover[inside] = np.where(rows[inside] % 6 < 2, 0.6, 0.18)
    alpha = cover[:, None, None]
    return Image.fromarray((pixels * (1 - alpha) + np.array(THREAD, np.float32) * alpha).astype(np.uint8))


def _paint_fabric(image: Image.Image, scene: Scene, top: int, floor: int) -> None:
    """The yellow rim above and below the opening with its label, and the piping at the right."""
    draw = ImageDraw.Draw(image, "RGBA")
    width, height = image.size
    sag = top * 0.25
    curve = [(float(x), sag * math.sin(math.pi * x / width)) for x in range(0, width + 1, 20)]
    for upper in (True, False):
        edge = [(x, top - 4 + bend * 0.4) if upper else (x, floor + 2 + bend - sag) for x, bend in curve]
        end = 0.0 if upper else float(height)
        draw.line([(x, y + (4 if upper else -3)) for x, y in edge], fill=(40, 25, 5, 90), width=6)
        draw.polygon([*edge, (float(width), end), (0.0, end)], fill=shaded(FABRIC, 1.0 if upper else 0.94))
        draw.line([(x, y + (-5 if upper else 5)) for x, y in edge], fill=shaded(FABRIC, 0.85))
    draw.rectangle([width * 0.965, 0, width * 0.985, height], fill=(206, 176, 112, 150))
    _paint_label(draw, scene, 0.0 if scene.label_colour % 2 else floor + top * 0.3)


def _paint_label(draw: ImageDraw.ImageDraw, scene: Scene, y: float) -> None:
    """The bin's name on a coloured strip, with a two-dimensional code."""
    colour = LABEL_COLOURS[scene.label_colour]
    left, height = CANVAS_WIDTH * 0.3, CANVAS_WIDTH * RIM * 0.62
    draw.rectangle([left, y, left + 130, y + height], fill=colour)
    draw.rectangle([left + 14, y + 3, left + 66, y + height - 3], fill=(235, 230, 222))
    font = ImageFont.load_default(height * 0.85)
    ink = (30, 25, 25)
    draw.text((left + 17, y - 1), scene.label, fill=ink, font=font)
    draw.line([(left + 57, y + 9), (left + 57, y + height - 6)], fill=ink, width=3)
    draw.polygon([(left + 51, y + 12), (left + 57, y + 5), (left + 63, y + 12)], fill=ink)
    code = np.random.default_rng(abs(hash_of(scene.label))).integers(0, 2, (8, 8))
    cell = (height - 6) / 8
    draw.rectangle([left + 80, y + 2, left + 82 + 8 * cell, y + 4 + 8 * cell], fill=(235, 230, 222))
    for row, column in np.argwhere(code):
        x0, y0 = left + 81 + column * cell, y + 3 + row * cell
        draw.rectangle([x0, y0, x0 + cell - 1, y0 + cell - 1], fill=(40, 35, 35))


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return int.from_bytes(text.encode(), "big")


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour in more or less light."""
    red, green, blue = (min(255, round(value * factor)) for value in colour)
    return red, green, blue


def contrast(colour: Colour) -> Colour:
    """A light or dark print that can be read on `colour`."""
    return (35, 32, 32) if sum(colour) > 380 else (228, 220, 200)


def edge_of(colour: Colour) -> Colour:
    """The outline of something of this colour: darker, or lighter where it is nearly black."""
    red, green, blue = colour
    return shaded(colour, 0.45) if sum(colour) > 170 else (red + 45, green + 42, blue + 38)
