"""One metadata file of the dataset to one record."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from components.core.contents import CENTIMETRES, KILOGRAMS, SIDES, BinRecord, Product, sorted_sides
from components.core.reasons import Reason
from components.core.records import Record

MAX_BYTES = 1_000_000  # real files hold 0.1 to 40 kB
MAX_QUANTITY = 1_000  # the fullest real bin holds 209 items

MAX_NESTING = 100  # real files nest 4 deep

QUANTITY_FIELD = "EXPECTED_QUANTITY"
CONTENTS_FIELD = "BIN_FCSKU_DATA"

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))


class BadMetadata(Exception):
    """The file is no usable metadata; `reason` is a short phrase to group by, the message says what was found."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def parse_metadata(image_id: str, data: bytes) -> Record:
    """The record of a bin. Raises BadMetadata."""
    document = _document(data)
    quantity = checked_quantity(document.get(QUANTITY_FIELD))
    contents = document.get(CONTENTS_FIELD)
    if contents is None:
        return Record(image_id, quantity)
    if not isinstance(contents, dict):
        raise BadMetadata(Reason.BAD_CONTENTS, f"{CONTENTS_FIELD} is not an object")
    quantities = {name: _product_quantity(product) for name, product in contents.items()}
    listed = BinRecord(quantity, tuple(_product(product) for product in contents.values() if product["quantity"]))
    return Record(
        image_id=image_id,
        quantity=quantity,
        products=len(quantities),
        contents=contents_hash(quantities),
        consistent=quantity == sum(quantities.values()),
        weight=_total(contents.values(), _weight),
        volume=_total(contents.values(), _volume),
        product_list=listed.encoded(),
    )


def checked_quantity(value: object) -> int:
    """A number of items, 0 to MAX_QUANTITY; 3.0 is 3, as in JSON, which has one kind of number. Raises BadMetadata."""
    if value is None:
        raise BadMetadata(Reason.NO_QUANTITY, f"{QUANTITY_FIELD} is missing")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadMetadata(Reason.BAD_QUANTITY, f"the quantity is {_shown(value)}, not a whole number")
    if not 0 <= value <= MAX_QUANTITY:
        raise BadMetadata(Reason.BAD_QUANTITY, f"the quantity {_shown(value)} is not between 0 and {MAX_QUANTITY}")
    return value


def contents_hash(quantities: dict[str, int]) -> str:
    """Equal for bins with the same products in the same quantities. Empty for an empty bin: all of those are alike."""
    if not quantities:
        return ""
    return hashlib.sha256(json.dumps(sorted(quantities.items())).encode()).hexdigest()[:16]


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise BadMetadata(Reason.TOO_LARGE, f"{len(data):,} bytes, more than {MAX_BYTES:,}")
    if _nesting(data) > MAX_NESTING:
        raise BadMetadata(Reason.NESTED_TOO_DEEP, f"the JSON is nested more than {MAX_NESTING} deep")
    try:
        document = json.loads(data.decode("utf-8-sig"))  # some editors begin a file with a mark of order
    except UnicodeDecodeError as error:
        raise BadMetadata(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8") from error
    except ValueError as error:  # JSONDecodeError is one; so are integers of thousands of digits
        raise BadMetadata(Reason.NOT_JSON, str(error)[:200]) from error
    if not isinstance(document, dict):
        raise BadMetadata(Reason.NOT_AN_OBJECT, f"the JSON is {_shown(document)}")
    return document


def _nesting(data: bytes) -> int:
    """How deep brackets nest; 0 without a closer look where there are too few. Far below the parser's own limit."""
    if data.count(b"{") + data.count(b"[") <= MAX_NESTING:
        return 0
    depth = deepest = 0
    for bracket in _STRING.sub(b"", data).translate(None, delete=_NO_BRACKETS):
        depth += 1 if bracket in b"{[" else -1
        deepest = max(deepest, depth)
    return deepest


def _product_quantity(product: object) -> int:
    if not isinstance(product, dict):
        raise BadMetadata(Reason.BAD_CONTENTS, f"a product is {_shown(product)}, not an object")
    try:
        return checked_quantity(product.get("quantity"))
    except BadMetadata as error:
        raise BadMetadata(Reason.BAD_CONTENTS, f"of a product, {error}") from error


def _total(products: Any, measure: Any) -> float | None:
    """Sum over all items; None where one product's figure is not known, and for an empty bin."""
    figures = [(product["quantity"], measure(product)) for product in products]
    if not figures or any(figure is None for _, figure in figures):
        return None
    return float(sum(quantity * figure for quantity, figure in figures))


def _weight(product: dict[str, Any]) -> float | None:
    """Of one, in pounds."""
    return _measured(product, "weight", KILOGRAMS, "pounds")


def _volume(product: dict[str, Any]) -> float | None:
    """Of one, in cubic inches."""
    sides = [_side(product, side) for side in ("height", "length", "width")]
    return None if None in sides else math.prod(side for side in sides if side is not None)


def _side(product: dict[str, Any], side: str) -> float | None:
    """In inches."""
    return _measured(product, side, CENTIMETRES, "in")


def _product(product: dict[str, Any]) -> Product:
    """In centimetres and kilograms, to a tenth of a millimetre and a gram."""
    sides = [_side(product, side) for side in SIDES]
    weight = _weight(product)
    return Product(
        _product_quantity(product),
        sorted_sides([None if side is None else round(side * CENTIMETRES["in"], 2) for side in sides]),
        None if weight is None else round(weight * KILOGRAMS["pounds"], 3),
    )


def _measured(product: dict[str, Any], what: str, units: Mapping[str, float], wanted: str) -> float | None:
    """A measure in the unit `wanted`; None where it is not known. Raises BadMetadata for a unit that nobody knows."""
    value = product.get(what)
    number = value.get("value") if isinstance(value, dict) else None
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < 1e6:
        return None
    unit = value.get("unit") if isinstance(value, dict) else None
    factor = units.get(unit.lower()) if isinstance(unit, str) else None
    if factor is None:
        raise BadMetadata(
            Reason.UNKNOWN_UNIT, f"the {what} of a product has the unit {_shown(unit)}; known are {', '.join(units)}"
        )
    return float(number) * (factor / units[wanted])


def _shown(value: object) -> str:
    kinds = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    if type(value) in kinds:
        return kinds[type(value)]
    if isinstance(value, int) and abs(value) >= 10**12:
        return "a number of more than 12 digits"
    return repr(value)[:60]
