"""What lies in a drawn bin and where: products, and the place of every item, in inches."""

from dataclasses import dataclass

import numpy as np

from drawn.products import Product, draw_product

# An item beside another may cover at most this share of the narrower one: all items can be seen.
LARGEST_OVERLAP = 0.12
TALLEST = 0.9  # share of the bin's height
MARGIN = 0.04  # kept free at either side, as a share of the bin's width


@dataclass(frozen=True)
class Item:
    """One item: the middle of its base (x from the left, y above the floor) and its size in inches; lean in degrees."""

    product: Product
    x: float
    y: float
    width: float
    height: float
    lean: float


@dataclass(frozen=True)
class Scene:
    """A bin: the inside's width and height in inches, and its items from the back to the front."""

    width: float
    height: float
    items: list[Item]
    label: str
    label_colour: int
    bands: list[tuple[float, float]]


def draw_scene(rng: np.random.Generator, count: int) -> Scene:
    """A bin with `count` items; some of them are copies of one product."""
    width = float(rng.uniform(13, 16))
    height = width * float(rng.choice([rng.uniform(0.42, 0.62), rng.uniform(0.62, 1.0)], p=[0.7, 0.3]))
    products = _draw_products(rng, count)
    bands = [(float(rng.uniform(0.02, 0.1)), float(rng.uniform(0.28, 0.42)))]
    if rng.random() < 0.8:
        bands.append((float(rng.uniform(0.5, 0.6)), float(rng.uniform(0.75, 0.9))))
    return Scene(
        width=width,
        height=height,
        items=_place(rng, products, width, height),
        label=f"{rng.integers(1, 5)}{'ABCDEFGHIJ'[rng.integers(10)]}",
        label_colour=int(rng.integers(5)),
        bands=bands,
    )


def _draw_products(rng: np.random.Generator, count: int) -> list[Product]:
    """One product an item; copies of a product stand next to each other."""
    scale = float(rng.uniform(0.95, 1.3)) * (1.0 if count > 2 else float(rng.uniform(1.0, 1.3)))
    products: list[Product] = []
    while len(products) < count:
        copies = int(rng.choice([1, 2, 3], p=[0.68, 0.24, 0.08]))
        products += [draw_product(rng, scale)] * min(copies, count - len(products))
    return products


def _place(rng: np.random.Generator, products: list[Product], width: float, height: float) -> list[Item]:
    """Stack what can be stacked, set the stacks side by side, shrink everything if they do not fit."""
    stacks = _stack(rng, products, height)
    margin, width = width * MARGIN, width * (1 - 2 * MARGIN)
    base_widths = np.array([max(product.width for product in stack) for stack in stacks])
    shrink = min(1.0, width / (base_widths.sum() * (1 - LARGEST_OVERLAP * 0.5))) if stacks else 1.0
    base_widths = base_widths * shrink
    left = _left_edges(rng, base_widths, width)
    items: list[tuple[float, Item]] = []
    for stack, start, base in zip(stacks, left, base_widths, strict=True):
        order = float(rng.random())
        middle, beneath = margin + start + base / 2, 0.0
        y = height * 0.06 * (1 - order)  # what stands further back stands higher in the picture
        for level, product in enumerate(stack):
            w = product.width * shrink * float(rng.uniform(0.97, 1.03))
            h = min(product.height * shrink, height * TALLEST) * float(rng.uniform(0.97, 1.03))
            lean = float(rng.normal(0, 3.0)) if len(stack) == 1 else float(rng.normal(0, 1.0))
            x = middle + float(rng.uniform(-0.5, 0.5)) * max(0.0, beneath - w)
            items.append((order + level * 1e-3, Item(product, x, y, w, h, lean)))
            middle, beneath, y = x, w, y + h * 0.99
    return [item for _, item in sorted(items, key=lambda pair: pair[0])]


def _stack(rng: np.random.Generator, products: list[Product], height: float) -> list[list[Product]]:
    """Group products into stacks from the floor up; only boxes and lying books carry something."""
    stacks: list[list[Product]] = []
    for product in products:
        fitting = [
            stack
            for stack in stacks
            if (stack[-1].kind == "box" or (stack[-1].kind == "book" and stack[-1].width > stack[-1].height))
            and product.width <= stack[-1].width * 1.05
            and sum(part.height for part in stack) + product.height <= height * TALLEST
        ]
        if fitting and rng.random() < min(0.95, 0.1 + 0.09 * len(products)):
            fitting[int(rng.integers(len(fitting)))].append(product)
        else:
            stacks.append([product])
    return stacks


def _left_edges(rng: np.random.Generator, widths: np.ndarray, total: float) -> np.ndarray:
    """Left edges of stacks side by side: gaps where there is room, overlaps (bounded) where there is none.

    `widths` in inches, N; returns N.
    """
    if not len(widths):
        return widths
    narrower = np.minimum(widths[:-1], widths[1:])
    overlaps = narrower * rng.uniform(0, LARGEST_OVERLAP, len(narrower))
    free = total - widths.sum() + overlaps.sum()
    if free < 0:  # so tight that overlaps have to be at their bound
        overlaps = narrower * LARGEST_OVERLAP
        free = max(0.0, total - widths.sum() + overlaps.sum())
    gaps = rng.dirichlet(np.full(len(widths) + 1, 0.7)) * free
    steps = np.concatenate([[0.0], widths[:-1] - overlaps])
    return np.cumsum(steps) + np.cumsum(gaps[:-1])
