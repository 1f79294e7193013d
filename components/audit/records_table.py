"""Tables of what is on record: a row a bin, or a row a product of a bin."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from components.core.contents import BadRecordError, BinRecord, Product, read_product
from components.core.tables import (
    BIN,
    CAMERA,
    COUNT,
    FILE,
    SITE,
    TAKEN_AT,
    Column,
    as_text,
    read_rows,
    spelled_number,
)

_ID = Column(("image_id", "id"), needed=False)  # where `file` is empty, as in the records that ingest writes
_QUANTITY = replace(COUNT, needed=False)
_LISTS = Column(("products", "bin_fcsku_data", "contents"), needed=False)
_ENCODED = Column(("product_list",), needed=False)
_PRODUCT = Column(("product", "asin", "sku", "item", "product_id"), needed=False)
_MEASURES = tuple(
    Column((name,), needed=False) for name in ("length", "width", "height", "unit", "weight", "weight_unit")
)
_COLUMNS = (FILE, _ID, _QUANTITY, _LISTS, _ENCODED, _PRODUCT, *_MEASURES, BIN, SITE, CAMERA, TAKEN_AT)


@dataclass(frozen=True)
class Told:
    """What a table tells of one photo. `record` is None where `problem` says what is wrong with it, as a clause.

    The further fields are as written, "" where there is none.
    """

    row: int
    file: str
    record: BinRecord | None
    problem: str = ""
    bin: str = ""
    site: str = ""
    camera: str = ""
    taken_at: str = ""


def read_records(path: Path) -> Iterator[Told]:
    """Rows of a table of records, those of one photo put together where each is a product.

    Tables with a column `product` hold a row for each product with its quantity, sides and weight; others a row for
    each photo, with a quantity, products as JSON, or both. Raises UserError for a file that is no such table.
    """
    by_product: dict[str, tuple[Told, list[Product]]] = {}
    for number, cells in enumerate(read_rows(path, _COLUMNS), start=1):
        written, image_id, quantity, listed, encoded, product, *rest = cells
        measures, further = rest[: len(_MEASURES)], map(as_text, rest[len(_MEASURES) :])
        told = Told(number, as_text(written) or as_text(image_id), None, "", *further)
        try:
            if as_text(product):
                _, products = by_product.setdefault(told.file, (told, []))
                products.append(_product(quantity, measures))
                continue
            yield replace(told, record=_record(quantity, listed, as_text(encoded)))
        except BadRecordError as error:
            if as_text(product):
                by_product[told.file] = (replace(told, problem=f"in row {number} {error}"), [])
                continue
            yield replace(told, problem=str(error))
    for told, products in by_product.values():
        yield told if told.problem else replace(told, record=BinRecord.of(products))


def _product(quantity: object, measures: list[object]) -> Product:
    names = [column.name for column in _MEASURES]
    cells = {name: _number(value) for name, value in zip(names, measures, strict=True)}
    return read_product({"quantity": spelled_number(quantity), **cells})


def _number(value: object) -> object:
    """A measure as written: a number, also one with a decimal comma, a blank as None, a unit as it is."""
    if not isinstance(value, str):
        return None if value != value else value
    text = value.strip()
    try:
        return float(text.replace(",", ".")) if text else None
    except ValueError:
        return text


def _record(quantity: object, listed: object, encoded: str) -> BinRecord:
    number = spelled_number(quantity)
    if encoded and isinstance(number, int):
        return BinRecord.decode(number, encoded)
    if isinstance(listed, str):
        try:
            listed = json.loads(listed) if listed.strip() else None
        except ValueError as error:
            raise BadRecordError("its products are not JSON") from error
    if isinstance(listed, dict):  # as in the dataset, by their ids
        listed = list(listed.values())
    return BinRecord.parse({"quantity": number, "products": listed})
