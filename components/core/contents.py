"""What a record says of a bin: a quantity and, where known, the products with their quantities, sides and weights.

Everything is in centimetres and kilograms; the dataset's inches and pounds are turned into them on the way in.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CENTIMETRES = {"in": 2.54, "inch": 2.54, "inches": 2.54, "cm": 1.0, "mm": 0.1, "m": 100.0, "ft": 30.48}
KILOGRAMS = {"pounds": 0.45359237, "pound": 0.45359237, "lb": 0.45359237, "lbs": 0.45359237, "kg": 1.0, "g": 0.001}
KILOGRAMS |= {"oz": 0.028349523125, "ounces": 0.028349523125}
SIDES = ("length", "width", "height")
MOST_QUANTITY = 1_000  # as in ingest: the fullest real bin holds 209 items
MOST_PRODUCTS = 500
_MOST_MEASURE = 1e6


class BadRecordError(ValueError):
    """A record that says nothing that can be used; the message is a clause."""


@dataclass(frozen=True)
class Product:
    """One product of a bin: how many of it, its three sides in cm (rising), and the weight of one in kg.

    Sides and weight are None where they are not known.
    """

    quantity: int
    sides: tuple[float, float, float] | None = None
    weight: float | None = None


@dataclass(frozen=True)
class BinRecord:
    """What is on record. `products` is None where only the quantity is known; else their quantities add up to it."""

    quantity: int
    products: tuple[Product, ...] | None = None

    @classmethod
    def of(cls, products: Iterable[Product]) -> "BinRecord":
        """The record that these products make; what has none of it leaves the list."""
        kept = tuple(product for product in products if product.quantity > 0)
        return cls(sum(product.quantity for product in kept), kept)

    @classmethod
    def parse(cls, value: object) -> "BinRecord":
        """Read `{"quantity": 3, "products": [{"quantity": 1, "length": 20, …, "unit": "cm", "weight": 0.4, …}]}`.

        Sides and weight may also come as in the dataset, `{"value": 7.9, "unit": "IN"}`. Without "quantity" it is the
        sum. Raises BadRecordError.
        """
        if not isinstance(value, dict):
            raise BadRecordError("it is not an object")
        if unknown := value.keys() - {"quantity", "products"}:
            raise BadRecordError(f"it has the unknown field {min(map(str, unknown))!r:.60}")
        listed = value.get("products")
        if listed is None:
            return cls(_whole(value.get("quantity"), "its quantity"))
        if not isinstance(listed, list) or len(listed) > MOST_PRODUCTS:
            raise BadRecordError(f"its products are not a list of at most {MOST_PRODUCTS}")
        record = cls.of(read_product(product) for product in listed)
        if value.get("quantity") is not None and _whole(value["quantity"], "its quantity") != record.quantity:
            raise BadRecordError(f"its quantity is {value['quantity']} and its products add up to {record.quantity}")
        if record.quantity > MOST_QUANTITY:
            raise BadRecordError(f"its products add up to more than {MOST_QUANTITY:,}")
        return record

    def encoded(self) -> str:
        """The products as they stand in tables: JSON `[[quantity, side, side, side, weight], …]`, "" for unknown."""
        if self.products is None:
            return ""
        rows = [[one.quantity, *(one.sides or (None,) * 3), one.weight] for one in self.products]
        return json.dumps(rows, separators=(",", ":"))

    @classmethod
    def decode(cls, quantity: int, text: str) -> "BinRecord":
        """Back from a table: a quantity, and what `encoded` wrote.

        Products that do not add up to the quantity tell nothing that could be relied upon, and are left out.
        """
        if not text:
            return cls(quantity)
        products = []
        for number, *sides, weight in json.loads(text):
            products.append(Product(number, None if None in sides else (sides[0], sides[1], sides[2]), weight))
        listed = cls.of(products)
        return listed if listed.quantity == quantity else cls(quantity)


def read_product(value: object) -> Product:
    """One product of a JSON record. Raises BadRecordError, also for a unit that is not known."""
    if not isinstance(value, Mapping):
        raise BadRecordError("a product is not an object")
    unit = value.get("unit")
    sides = [_measured(value.get(side), unit, CENTIMETRES, f"a product's {side}") for side in SIDES]
    weight_unit = value.get("weight_unit")
    return Product(
        _whole(value.get("quantity"), "a product's quantity"),
        sorted_sides(sides),
        _measured(value.get("weight"), weight_unit, KILOGRAMS, "a product's weight"),
    )


def sorted_sides(sides: list[float | None]) -> tuple[float, float, float] | None:
    """The three sides from the shortest to the longest, None where one is not known."""
    known = sorted(side for side in sides if side is not None)
    return (known[0], known[1], known[2]) if len(known) == len(SIDES) else None


def _whole(value: Any, what: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_QUANTITY:
        raise BadRecordError(f"{what} is not a whole number from 0 to {MOST_QUANTITY:,}")
    return value


def _measured(value: Any, unit: Any, units: Mapping[str, float], what: str) -> float | None:
    if isinstance(value, Mapping):
        value, unit = value.get("value"), value.get("unit")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST_MEASURE:
        raise BadRecordError(f"{what} is not a number from 0 to {_MOST_MEASURE:,.0f}")
    factor = units.get(str(unit).lower())
    if factor is None:
        known = ", ".join(units)
        raise BadRecordError(f"{what} has the unit {str(unit)!r:.40}; known are {known}")
    measured = value * factor
    return measured if math.isfinite(measured) else None
