"""What is learned of records: it believes them as often as they are right, and knows the ways they go wrong."""

import numpy as np

from components.core.contents import BinRecord, Product
from components.core.record_errors import ERROR_RATE, draw_wrong_record
from components.train.record_model.fit import FEWEST_LISTS, Known, class_of, fit_record_model

MOST = 3


def drawn(bins: int, seed: int) -> Known:
    """Bins whose photos say something of the count, calibrated, and whose products are mostly single."""
    random = np.random.default_rng(seed)
    records, classes = [], []
    for _ in range(bins):
        number = int(random.integers(0, 5))
        products = [
            Product(int(random.choice([1, 1, 1, 1, 2])), (2.0, 4.0, float(random.uniform(5, 30))))
            for _ in range(number)
        ]
        records.append(BinRecord.of(products))
        classes.append(class_of(records[-1].quantity, MOST))
    shift = 1.5 * np.eye(MOST + 2)[classes]
    # Of two normal densities 1.5 apart the logarithms differ by 1.5 times what was seen, and a constant.
    scores = 1.5 * (random.normal(size=shift.shape) + shift) + np.log(np.bincount(classes, minlength=MOST + 2))
    return Known(records, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))


def test_probabilities_of_a_mismatch_are_as_large_as_mismatches_are_frequent() -> None:
    model = fit_record_model(drawn(1500, 1).records, drawn(400, 2), MOST, seed=0)
    assert model.judge is not None
    random, fresh = np.random.default_rng(3), drawn(4000, 4)
    pool = [product for record in fresh.records for product in record.products or ()]
    told, wrong = [], []
    for record, photo in zip(fresh.records, fresh.photo, strict=True):
        shown = record
        if random.random() < ERROR_RATE:
            made = draw_wrong_record(record, pool, MOST, random)
            assert made is not None
            shown = made[1]
        mismatch = model.judged(photo, shown).mismatch
        if mismatch is not None:
            told.append(mismatch)
            wrong.append(shown != record)
    assert abs(np.mean(told) - np.mean(wrong)) < 0.015  # four deviations of so many draws
    brier = np.mean((np.array(told) - wrong) ** 2)
    assert brier < np.mean((np.mean(wrong) - np.array(wrong)) ** 2)
    first = np.argsort(told)[::-1][: len(told) // 10]
    assert np.array(wrong)[first].sum() > 2 * 0.1 * np.sum(wrong)


def test_where_no_products_are_listed_the_quantity_alone_is_judged_by() -> None:
    bare = [BinRecord(record.quantity) for record in drawn(600, 1).records]
    model = fit_record_model(bare, drawn(100, 2), MOST, seed=0)
    assert model.judge is None
    photo = np.array(model.prior)
    assert model.judged(photo, BinRecord.of([Product(1)])) == model.judged(photo, BinRecord(1))


def test_few_lists_are_not_learned_from_and_the_same_bins_give_the_same_model() -> None:
    few = drawn(FEWEST_LISTS - 1, 1).records
    assert fit_record_model(few, drawn(60, 2), MOST, seed=0).judge is None
    many = drawn(FEWEST_LISTS + 10, 1).records
    assert fit_record_model(many, drawn(60, 2), MOST, 0) == fit_record_model(many, drawn(60, 2), MOST, 0)
