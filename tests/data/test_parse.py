import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.records import Record
from components.ingest_metadata.parse import MAX_QUANTITY, BadMetadata, contents_hash, parse_metadata

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
REASONS = {"not JSON", "not UTF-8", "nested too deep", "not an object", "no quantity", "bad quantity", "bad contents"}
REASONS |= {"unknown unit"}
PRODUCT = {
    "asin": "B1",
    "quantity": 2,
    "weight": {"unit": "pounds", "value": 1.5},
    **{side: {"unit": "IN", "value": 2.0} for side in ("height", "length", "width")},
}


def parsed(document: object) -> Record:
    return parse_metadata("00001", json.dumps(document).encode())


def outcome(data: bytes) -> Record | str:
    """The record, or the reason why there is none; any other exception fails the test."""
    try:
        return parse_metadata("00001", data)
    except BadMetadata as error:
        return error.reason


def test_a_bin_is_read_with_its_totals() -> None:
    record = parsed({"BIN_FCSKU_DATA": {"B1": PRODUCT, "B2": {**PRODUCT, "quantity": 1}}, "EXPECTED_QUANTITY": 3})
    assert (record.quantity, record.products, record.consistent) == (3, 2, True)
    assert (record.weight, record.volume) == (4.5, 24.0)


def test_a_quantity_that_disagrees_with_the_contents_is_kept_and_flagged() -> None:
    assert parsed({"BIN_FCSKU_DATA": {"B1": PRODUCT}, "EXPECTED_QUANTITY": 5}).consistent is False


def test_missing_measures_leave_the_total_unknown() -> None:
    record = parsed({"BIN_FCSKU_DATA": {"B1": {**PRODUCT, "weight": None}}, "EXPECTED_QUANTITY": 2})
    assert (record.weight, record.volume) == (None, 16.0)


@pytest.mark.parametrize(("unit", "weight"), [("Pounds", 3.0), ("oz", 3.0 / 16), ("kg", 3.0 / 0.45359237)])
@pytest.mark.parametrize(("side_unit", "volume"), [("inches", 16.0), ("cm", 16.0 / 2.54**3), ("ft", 16.0 * 12**3)])
def test_measures_in_other_units_are_those_of_the_dataset_converted(
    unit: str, weight: float, side_unit: str, volume: float
) -> None:
    sides = {side: {"unit": side_unit, "value": 2.0} for side in ("height", "length", "width")}
    product = {**PRODUCT, "weight": {"unit": unit, "value": 1.5}, **sides}
    record = parsed({"BIN_FCSKU_DATA": {"B1": product}, "EXPECTED_QUANTITY": 2})
    assert record.weight == pytest.approx(weight)
    assert record.volume == pytest.approx(volume)


@pytest.mark.parametrize("unit", ["furlong", "", None, 3])
def test_a_unit_that_nobody_knows_is_a_reason_and_not_a_bin_without_measures(unit: object) -> None:
    product = {**PRODUCT, "height": {"unit": unit, "value": 2.0}}
    with pytest.raises(BadMetadata, match=r"the height of a product has the unit .*; known are in, inch") as refused:
        parsed({"BIN_FCSKU_DATA": {"B1": product}, "EXPECTED_QUANTITY": 2})
    assert refused.value.reason == "unknown unit"


def test_empty_bins_share_contents_with_nobody() -> None:
    assert parsed({"BIN_FCSKU_DATA": {}, "EXPECTED_QUANTITY": 0}).contents == ""


@given(st.permutations([("a", 1), ("b", 2), ("c", 3)]))
def test_contents_do_not_depend_on_their_order(products: list[tuple[str, int]]) -> None:
    assert contents_hash(dict(products)) == contents_hash({"a": 1, "b": 2, "c": 3})
    assert contents_hash(dict(products)) != contents_hash({"a": 1, "b": 2, "c": 4})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"EXPECTED_QUANTITY": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"EXPECTED_QUANTITY": NaN}', "bad quantity"),
        (b"[" * 100_000, "nested too deep"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b" " * 1_000_001, "too large"),
        (b"{}", "no quantity"),
        (b'{"EXPECTED_QUANTITY": null}', "no quantity"),
        (b'{"EXPECTED_QUANTITY": -1}', "bad quantity"),
        (b'{"EXPECTED_QUANTITY": 1001}', "bad quantity"),
        (b'{"EXPECTED_QUANTITY": 2.5}', "bad quantity"),
        (b'{"EXPECTED_QUANTITY": 1e400}', "bad quantity"),
        (b'{"EXPECTED_QUANTITY": "3"}', "bad quantity"),
        (b'{"EXPECTED_QUANTITY": true}', "bad quantity"),
        (b'{"EXPECTED_QUANTITY": 1, "BIN_FCSKU_DATA": []}', "bad contents"),
        (b'{"EXPECTED_QUANTITY": 1, "BIN_FCSKU_DATA": {"B1": 1}}', "bad contents"),
        (b'{"EXPECTED_QUANTITY": 1, "BIN_FCSKU_DATA": {"B1": {"quantity": -1}}}', "bad contents"),
    ],
)
def test_bad_metadata_has_its_reason(data: bytes, expected: str) -> None:
    assert outcome(data) == expected


def sane(result: Record | str) -> bool:
    return result in REASONS if isinstance(result, str) else 0 <= result.quantity <= MAX_QUANTITY


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_have_a_reason(data: bytes) -> None:
    assert sane(outcome(data))


@given(quantity=JSON, contents=JSON, products=st.dictionaries(st.text(), JSON, max_size=3), nested=st.booleans())
def test_any_json_is_a_sane_record_or_has_a_reason(
    quantity: object, contents: object, products: dict[str, object], nested: bool
) -> None:
    document = {"EXPECTED_QUANTITY": quantity, "BIN_FCSKU_DATA": products if nested else contents}
    assert sane(outcome(json.dumps(document).encode()))


@given(depth=st.integers(101, 5000), opening=st.sampled_from([b"[", b'{"a":']))
def test_deep_nesting_is_a_reason(depth: int, opening: bytes) -> None:
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    assert outcome(opening * depth + b"1" + closing * depth) == "nested too deep"


@given(
    st.dictionaries(st.text(min_size=1), st.integers(0, 9), max_size=5),
    st.sampled_from(["weight", "height", "length", "width"]),
    JSON,
)
def test_odd_measures_never_lose_a_bin(quantities: dict[str, int], field: str, value: object) -> None:
    contents = {name: {**PRODUCT, "quantity": quantity, field: value} for name, quantity in quantities.items()}
    record = parsed({"EXPECTED_QUANTITY": sum(quantities.values()), "BIN_FCSKU_DATA": contents})
    assert record.consistent
    assert record.products == len(quantities)


@pytest.mark.parametrize("text", [b'{"EXPECTED_QUANTITY": 3.0}', b'{"EXPECTED_QUANTITY": 3e0}'])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_whole_number_is_one_however_it_is_written(text: bytes, mark: bytes) -> None:
    assert parse_metadata("00001", mark + text).quantity == 3
