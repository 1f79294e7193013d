"""Tables of what is on record, as people write them."""

import json
from pathlib import Path

import pytest

from components.audit.records_table import Told, read_records
from components.core.contents import BinRecord, Product


def rows(folder: Path, name: str, text: str) -> list[Told]:
    (folder / name).write_text(text)
    return list(read_records(folder / name))


def test_a_row_a_photo_with_a_quantity_and_further_columns(tmp_path: Path) -> None:
    one, two = rows(tmp_path, "r.csv", "file;count;bin;site\na.jpg;3;B-7;north\nb.jpg;0;;\n")
    assert (one.file, one.record, one.bin, one.site) == ("a.jpg", BinRecord(3), "B-7", "north")
    assert (two.record, two.problem) == (BinRecord(0), "")


def test_a_row_a_product_is_put_together_in_one_unit(tmp_path: Path) -> None:
    text = (
        "photo,sku,quantity,length,width,height,unit,weight,weight_unit\n"
        "a.jpg,X,2,10,1,2,in,1,lb\n"
        "b.jpg,Y,1,,,,,,\n"
        'a.jpg,Z,1,"25,4",2.54,5.08,cm,453.59237,g\n'
    )
    one, two = rows(tmp_path, "r.csv", text)
    assert one.record is not None
    assert one.record.quantity == 3
    first, second = one.record.products or ()
    assert first.sides == pytest.approx(second.sides)
    assert first.weight == pytest.approx(second.weight)
    assert two.record == BinRecord.of([Product(1)])


def test_products_as_json_and_as_in_the_dataset(tmp_path: Path) -> None:
    listed = [{"file": "a.jpg", "quantity": 3, "products": [{"quantity": 2}, {"quantity": 1}]}]
    data = {"B00X": {"quantity": 3, "length": {"value": 1, "unit": "IN"}, "name": "a thing"}}
    dataset = [{"image_id": "00001", "EXPECTED_QUANTITY": 3, "BIN_FCSKU_DATA": data}]
    for content, expected in ((listed, (2, 1)), (dataset, (3,))):
        [told] = rows(tmp_path, "r.json", json.dumps(content))
        assert told.record is not None
        assert tuple(product.quantity for product in told.record.products or ()) == expected


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.jpg,-1,", "its quantity is not a whole number"),
        ("a.jpg,99999999,", "its quantity is not a whole number"),
        ("a.jpg,,", "its quantity is not a whole number"),
        ("a.jpg,three,", "its quantity is not a whole number"),
        ("a.jpg,3,{", "its products are not JSON"),
        ('a.jpg,3,"[{""quantity"": 2}]"', "its products add up to 2"),
        ('a.jpg,2,"[{""quantity"": 2, ""length"": 3, ""unit"": ""elbow""}]"', "has the unit 'elbow'"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(tmp_path: Path, row: str, problem: str) -> None:
    [told] = rows(tmp_path, "r.csv", f"file,quantity,products\n{row}\n")
    assert told.record is None
    assert problem in told.problem


def test_one_product_that_cannot_be_used_spoils_its_bin_and_no_other(tmp_path: Path) -> None:
    text = "file,product,quantity,length,unit\na.jpg,X,1,3,elbow\na.jpg,Y,1,,\nb.jpg,X,2,,\n"
    one, two = rows(tmp_path, "r.csv", text)
    assert "in row 1" in one.problem
    assert one.record is None
    assert two.record == BinRecord.of([Product(2)])
