"""Drawn bins with what is on record of them, of which some is wrong: to try an audit on."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from components.core.contents import SIDES, BinRecord
from components.core.files import written_whole
from components.core.record_errors import ERROR_RATE, draw_wrong_record
from drawn.bins import GeneratedBin, draw_bins

_MOST = 5  # a wrong count is one of 1 to so many


def write_audit(folder: Path, count: int, seed: int) -> None:
    """Write photos/, records.json with a share ERROR_RATE of wrong records, and truth.csv with what the bins hold."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([seed, count])
    bins = [(one, record) for one in draw_bins(count, seed) if (record := _record(one)) is not None]
    pool = [product for _, record in bins for product in record.products or ()]
    records: list[dict[str, Any]] = []
    with written_whole(folder / "truth.csv") as partial, partial.open("w", newline="") as file:
        truth = csv.writer(file)
        truth.writerow(["file", "holds", "recorded", "wrong", "error"])
        for one, record in bins:
            error, shown = "", record
            if random.random() < ERROR_RATE and (drawn := draw_wrong_record(record, pool, _MOST, random)):
                error, shown = drawn
            name = f"{one.image_id}.jpg"
            if one.jpeg is not None:
                (folder / "photos" / name).write_bytes(one.jpeg)
            records.append({"file": name, **_told(shown)})
            truth.writerow([name, record.quantity, shown.quantity, int(bool(error)), error])
    with written_whole(folder / "records.json") as partial:
        partial.write_text(json.dumps(records, indent=1) + "\n")


def _record(one: GeneratedBin) -> BinRecord | None:
    """What the metadata say; None for the broken ones."""
    try:
        products = json.loads(one.metadata)["BIN_FCSKU_DATA"].values()
    except ValueError:
        return None
    return BinRecord.parse({"products": list(products)})


def _told(record: BinRecord) -> dict[str, Any]:
    """A record as `BinRecord.parse` reads it."""
    products = []
    for product in record.products or ():
        measures = [round(side, 2) for side in product.sides or ()]
        sides = dict(zip(SIDES, measures, strict=True)) | {"unit": "cm"} if measures else {}
        weight = {} if product.weight is None else {"weight": round(product.weight, 3), "weight_unit": "kg"}
        products.append({"quantity": product.quantity, **sides, **weight})
    return {"quantity": record.quantity, "products": products}
