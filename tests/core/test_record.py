"""What is on record, how records go wrong, and what photo and record say together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.contents import BadRecordError, BinRecord, Product
from components.core.posterior import RecordModel, record_features
from components.core.record_errors import KINDS, Kind, draw_wrong_record, wrong_record

PRODUCTS = st.lists(
    st.builds(
        Product,
        st.integers(1, 4),
        st.none() | st.tuples(*[st.floats(1, 60)] * 3).map(lambda sides: tuple(sorted(sides))),
        st.none() | st.floats(0.01, 20),
    ),
    max_size=6,
)
POOL = [Product(1, (2.0, 5.0, 9.0), 0.2), Product(2)]
MODEL = RecordModel(
    max_count=3,
    prior=(0.05, 0.25, 0.3, 0.2, 0.2),
    gamma=1.0,
    error_rate=0.05,
    wrong=((0, 0.5, 0.3, 0.2), (0.1, 0, 0.6, 0.3), (0.05, 0.45, 0, 0.5), (0.05, 0.25, 0.6, 0), (0.0, 0.0, 0.1, 0.4)),
)


@given(products=PRODUCTS)
def test_a_record_is_the_same_after_it_stood_in_a_table(products: list[Product]) -> None:
    record = BinRecord.of(products)
    assert BinRecord.decode(record.quantity, record.encoded()) == record


def test_products_that_do_not_add_up_to_the_quantity_tell_nothing() -> None:
    assert BinRecord.decode(4, BinRecord.of([Product(3)]).encoded()) == BinRecord(4)


@given(products=PRODUCTS, kind=st.sampled_from(KINDS), seed=st.integers(0, 999))
def test_no_made_record_is_impossible_by_itself_or_says_the_truth(
    products: list[Product], kind: Kind, seed: int
) -> None:
    truth = BinRecord.of(products)
    shown = wrong_record(truth, kind, POOL, 5, np.random.default_rng(seed))
    if shown is None:
        return
    assert shown.products is not None
    assert shown.quantity == sum(product.quantity for product in shown.products) >= len(shown.products)
    assert shown.quantity != truth.quantity
    assert all(product.quantity > 0 for product in shown.products)


@given(products=PRODUCTS, seed=st.integers(0, 999))
def test_every_bin_can_have_a_wrong_record(products: list[Product], seed: int) -> None:
    assert draw_wrong_record(BinRecord.of(products), POOL, 5, np.random.default_rng(seed)) is not None


def test_inches_pounds_and_the_datasets_own_form_become_centimetres_and_kilograms() -> None:
    metric = {"quantity": 2, "length": 25.4, "width": 2.54, "height": 5.08, "unit": "cm", "weight": 453.59237}
    ours = BinRecord.parse({"quantity": 2, "products": [{**metric, "weight_unit": "g"}]})
    sides = {side: {"value": value, "unit": "IN"} for side, value in (("length", 10), ("width", 1), ("height", 2))}
    theirs = BinRecord.parse({"products": [{"quantity": 2, **sides, "weight": {"value": 1, "unit": "pounds"}}]})
    for record in (ours, theirs):
        assert record.products is not None
        assert record.products[0].sides == pytest.approx((2.54, 5.08, 25.4))
        assert record.products[0].weight == pytest.approx(0.45359237)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "not an object"),
        ({}, "quantity is not a whole number"),
        ({"quantity": -1}, "quantity is not a whole number"),
        ({"quantity": 2, "products": [{"quantity": 1}]}, "add up to 1"),
        ({"products": [{"quantity": 1, "length": 3, "unit": "elbows"}]}, "unit 'elbows'; known are"),
        ({"products": [{"quantity": 1, "length": -3, "unit": "cm"}]}, "not a number from 0"),
        ({"quantity": 1, "colour": "red"}, "unknown field 'colour'"),
        ({"products": [3]}, "a product is not an object"),
    ],
)
def test_a_record_that_cannot_be_used_is_refused_with_what_is_wrong(value: object, words: str) -> None:
    with pytest.raises(BadRecordError, match=words):
        BinRecord.parse(value)


def even() -> np.ndarray:
    return np.array(MODEL.prior)


@pytest.mark.parametrize("quantity", [0, 1, 2, 3])
def test_a_photo_that_says_nothing_leaves_records_mostly_right(quantity: int) -> None:
    judged = MODEL.judged(even(), BinRecord(quantity))
    assert judged.likeliest == quantity
    assert judged.mismatch is not None
    assert judged.mismatch < 0.25


def test_a_photo_that_is_sure_of_another_count_asks_for_a_recount() -> None:
    photo = np.array([0.001, 0.001, 0.001, 0.99, 0.007])
    judged = MODEL.judged(photo, BinRecord(1))
    assert judged.mismatch is not None
    assert judged.mismatch > 0.5
    assert judged.likeliest == 3
    assert MODEL.judged(photo, BinRecord(3)).mismatch == pytest.approx(0, abs=0.01)


@given(
    photo=st.lists(st.floats(0.001, 1), min_size=5, max_size=5),
    quantity=st.integers(0, 3),
    rates=st.lists(st.floats(0.001, 0.5), min_size=2, max_size=2),
)
def test_the_more_records_are_wrong_the_less_one_is_believed(
    photo: list[float], quantity: int, rates: list[float]
) -> None:
    probabilities = np.array(photo) / sum(photo)
    few, many = (MODEL.judged(probabilities, BinRecord(quantity), rate) for rate in sorted(rates))
    assert few.mismatch is not None
    assert many.mismatch is not None
    assert few.mismatch <= many.mismatch + 1e-9
    assert MODEL.posterior(probabilities[None], [BinRecord(quantity)]).sum() == pytest.approx(1)
    each = MODEL.posterior(np.array([probabilities] * 2), [BinRecord(quantity)] * 2, np.array(sorted(rates)))
    assert 1 - each[:, quantity] == pytest.approx([few.mismatch, many.mismatch])


def test_of_a_quantity_beyond_what_is_counted_the_model_knows_nothing() -> None:
    judged = MODEL.judged(even(), BinRecord(4))
    assert (judged.mismatch, judged.likeliest) == (None, None)


@given(products=PRODUCTS)
def test_features_are_finite_and_as_many_for_every_record(products: list[Product]) -> None:
    features = record_features(BinRecord.of(products))
    assert np.isfinite(features).all()
    assert features.shape == record_features(BinRecord.of(POOL)).shape
