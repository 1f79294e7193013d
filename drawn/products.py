"""Products that may lie in a drawn bin: their kind, size in inches, colours, and their entry in the metadata."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["box", "book", "bottle", "bag"]
Colour = tuple[int, int, int]

KIND_SHARES: dict[Kind, float] = {"box": 0.40, "book": 0.25, "bottle": 0.17, "bag": 0.18}
CARDBOARD: list[Colour] = [(150, 112, 84), (132, 98, 76), (168, 130, 98)]
PRINTED: list[Colour] = [
    (176, 44, 52), (38, 76, 148), (40, 122, 72), (226, 226, 220), (32, 34, 40), (214, 122, 36), (92, 56, 130),
    (60, 150, 170), (208, 96, 140), (96, 30, 40), (120, 128, 136), (24, 60, 70),
]  # fmt: skip
PLASTIC: list[Colour] = [
    (226, 224, 218),
    (206, 206, 208),
    (120, 122, 128),
    (52, 52, 58),
    (88, 120, 160),
    (196, 150, 156),
]
WORDS: dict[Kind, list[str]] = {
    "box": ["Storage Jar", "Desk Lamp", "Brake Pads", "Coffee Filters", "Toy Train", "Kitchen Safe", "Router"],
    "book": ["Field Guide to Birds", "Linear Algebra", "Winter Soups", "The Long Harbour", "City Atlas"],
    "bottle": ["Shampoo", "Olive Oil", "Glass Cleaner", "Vitamin C Tablets", "Dish Soap", "Body Lotion"],
    "bag": ["Cotton T-Shirt", "Microfibre Cloths", "Wool Scarf", "Bed Sheet", "Yoga Socks", "Shower Curtain"],
}  # fmt: skip
QUALIFIERS = ["Large", "Small", "Classic", "Blue", "Pack of 2", "Travel Size", "2nd Edition", "Black", "One Size"]


@dataclass(frozen=True)
class Product:
    """One product. Sizes in inches as it stands in the bin; `pattern` seeds the print that all its copies share."""

    asin: str
    name: str
    kind: Kind
    width: float
    height: float
    depth: float
    weight: float | None
    colour: Colour
    accent: Colour
    pattern: int

    def metadata(self, quantity: int, *, normalized_name: bool) -> dict[str, Any]:
        """The product's entry under BIN_FCSKU_DATA in the dataset's schema."""
        entry: dict[str, Any] = {
            "asin": self.asin,
            "height": {"unit": "IN", "value": self.height},
            "length": {"unit": "IN", "value": self.depth},
            "name": self.name,
            "normalizedName": self.name,
            "quantity": quantity,
            "weight": {"unit": "pounds", "value": self.weight},
            "width": {"unit": "IN", "value": self.width},
        }
        if not normalized_name:
            del entry["normalizedName"]
        return entry


def draw_product(rng: np.random.Generator, scale: float) -> Product:
    """Invent a product; `scale` makes everything in a bin larger or smaller."""
    kind: Kind = rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values()))
    width, height = (round(float(side) * scale, 2) for side in _size(rng, kind))
    palette = PLASTIC if kind == "bag" else CARDBOARD if kind == "box" and rng.random() < 0.4 else PRINTED
    colour, accent = _shade(rng, palette), _shade(rng, PRINTED)
    return Product(
        asin="B0" + "".join(rng.choice(list("0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"), 8)),
        name=f"{rng.choice(WORDS[kind])}, {rng.choice(QUALIFIERS)}",
        kind=kind,
        width=width,
        height=height,
        depth=round(float(rng.uniform(4, 12)), 2),
        weight=None if rng.random() < 0.03 else round(float(rng.gamma(2, 0.5)) + 0.05, 3),
        colour=colour,
        accent=accent,
        pattern=int(rng.integers(2**31)),
    )


def _size(rng: np.random.Generator, kind: Kind) -> tuple[float, float]:
    """Width and height in inches."""
    if kind == "box":
        return rng.uniform(2.5, 4.4), rng.uniform(2.4, 5.0)
    if kind == "book":
        thickness, length = rng.uniform(1.1, 1.9), rng.uniform(4.6, 6.6)
        return (length, thickness) if rng.random() < 0.35 else (thickness, length)  # lying or standing
    if kind == "bottle":
        width = rng.uniform(1.6, 2.6)
        return width, width * rng.uniform(2.0, 3.0)
    return rng.uniform(2.8, 4.4), rng.uniform(2.6, 4.8)


def _shade(rng: np.random.Generator, palette: list[Colour]) -> Colour:
    """A colour of the palette, a little lighter or darker."""
    colour = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.85, 1.12)
    red, green, blue = (int(value) for value in np.clip(colour + rng.normal(0, 6, 3), 5, 245))
    return red, green, blue
