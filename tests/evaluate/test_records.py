"""Figures of records: what is drawn, how lists are ranked, and what photos add where they tell something."""

import numpy as np
import pytest

from components.core.contents import BinRecord, Product
from components.core.posterior import RecordModel
from components.core.record_metrics import (
    FIRST_TENTH,
    PHOTO,
    QUANTITY,
    QUANTITY_WITHOUT_PHOTO,
    RANDOM,
    WHOLE,
    RankedList,
    RecordFigures,
)
from components.core.report import Report
from components.evaluate.record_page import add_records
from components.evaluate.records import FEWEST_BINS, MIXTURE, HeldOut, judge_records
from components.train.record_model.fit import Known, class_of, fit_record_model

MOST = 4


def bins(number: int, seed: int, sharpness: float = 1.2, listed: bool = True) -> HeldOut:
    """Bins of 0 to 6 items with calibrated photos, the surer the larger `sharpness`; ten neighbours make a block."""
    random = np.random.default_rng(seed)
    quantities = random.integers(0, 7, number)
    records = [BinRecord(int(quantity)) for quantity in quantities]
    if listed:
        records = [_listed(int(quantity), random) for quantity in quantities]
    classes = [class_of(record.quantity, MOST) for record in records]
    seen = random.normal(size=(number, MOST + 2)) + sharpness * np.eye(MOST + 2)[classes]
    scores = sharpness * seen + np.log(np.bincount(classes, minlength=MOST + 2))
    photo = np.exp(scores - scores.max(axis=1, keepdims=True))
    return HeldOut(records, photo / photo.sum(axis=1, keepdims=True), np.arange(number) // 10)


def _listed(quantity: int, random: np.random.Generator) -> BinRecord:
    """Products that are mostly single, and now and then three at once."""
    products = []
    while quantity:
        number = min(quantity, int(random.choice([1, 1, 1, 3])))
        products.append(Product(number, (2.0, 3.0, float(random.uniform(4, 9)))))
        quantity -= number
    return BinRecord.of(products)


def model(listed: bool = True) -> RecordModel:
    training, validation = bins(1500, 1, listed=listed), bins(800, 2, listed=listed)
    return fit_record_model(training.records, Known(validation.records, validation.photo), MOST, 0)


@pytest.fixture(scope="module")
def knowing() -> RecordModel:
    return model()


@pytest.fixture(scope="module")
def figures(knowing: RecordModel) -> RecordFigures:
    judged = judge_records(knowing, bins(1200, 3), seed=0)
    assert judged is not None
    return judged


def test_what_is_found_lies_between_chance_and_certainty_and_the_photo_helps(figures: RecordFigures) -> None:
    mixture = {ranking.by: ranking for ranking in figures.kinds[0].rankings}
    assert mixture[RANDOM].auc.mean == pytest.approx(0.5, abs=0.05)
    assert mixture[RANDOM].found[1].mean == pytest.approx(0.1, abs=0.03)
    assert mixture[QUANTITY].auc.mean > mixture[QUANTITY_WITHOUT_PHOTO].auc.mean + 0.1
    for ranking in figures.kinds[0].rankings:
        assert 0 <= ranking.found[0].mean <= ranking.found[1].mean <= ranking.found[2].mean <= 1
        for found in ranking.found:
            assert found.interval[0] <= found.mean <= found.interval[1]
    best, without_photo = figures.ranked
    assert best.by == WHOLE
    assert best.found[FIRST_TENTH].mean > max(0.2, without_photo.found[FIRST_TENTH].mean)


def test_probabilities_hold_at_every_rate_that_the_model_is_told(figures: RecordFigures) -> None:
    for rate in figures.rates:
        assert rate.brier.mean < rate.constant.mean
        for expected, found in zip(rate.expected, rate.found, strict=True):
            assert expected == pytest.approx(found, rel=0.35)
    assert figures.recounts_of_right < 0.1 < figures.recounts_of_wrong


def test_wrong_records_are_as_many_as_the_rate_says_and_those_beyond_the_range_stand_in_every_denominator(
    figures: RecordFigures,
) -> None:
    mixture = figures.kinds[0]
    assert mixture.kind == MIXTURE
    assert mixture.wrong == pytest.approx(0.05 * figures.bins, rel=0.2)
    assert mixture.unjudged > 0.2 * figures.bins  # 5 and 6 of 0 to 6, of a model that counts to 4


def test_sets_hold_nine_of_ten_truths_and_products_make_them_smaller(figures: RecordFigures) -> None:
    photo, both = figures.sets
    assert photo.coverage == pytest.approx(0.9, abs=0.04)
    assert both.coverage == pytest.approx(0.9, abs=0.05)
    assert both.size < photo.size
    counted = {one.by: one for one in figures.counting}
    assert counted["both"].accuracy >= counted["photo"].accuracy


def test_without_products_the_quantity_is_judged_by_and_photos_that_say_nothing_find_nothing() -> None:
    figures = judge_records(model(listed=False), bins(600, 7, sharpness=0.01, listed=False), seed=0)
    assert figures is not None
    mixture = {ranking.by: ranking for ranking in figures.kinds[0].rankings}
    assert WHOLE not in mixture
    assert mixture[PHOTO].auc.mean == pytest.approx(0.5, abs=0.12)
    assert figures.counting == ()


def test_few_bins_say_nothing(knowing: RecordModel) -> None:
    assert judge_records(knowing, bins(FEWEST_BINS - 1, 8), seed=0) is None


def test_the_same_seed_gives_the_same_figures(knowing: RecordModel) -> None:
    assert judge_records(knowing, bins(300, 9), 1) == judge_records(knowing, bins(300, 9), 1)


def test_a_list_counts_what_its_first_places_find_and_when_half_is_found() -> None:
    wrong = np.zeros(100, bool)
    wrong[[0, 1, 2, 50]] = True
    score = np.linspace(1, 0, 100)
    score[50] = np.nan
    listed = RankedList.of(wrong, score, np.random.default_rng(0))
    assert listed.found == (0.75, 0.75, 0.75)
    assert listed.half == 0.02
    assert listed.wrong[-1]
    assert listed.auc == 1.0


def test_the_report_shows_every_order_and_every_kind_of_error(figures: RecordFigures) -> None:
    report = Report("records")
    add_records(report, figures)
    page = report.html()
    for ranking in figures.kinds[0].rankings:
        assert f'<th scope="row">{ranking.by}</th>' in page
    for kind in figures.kinds:
        assert f'<th scope="row">{kind.kind}</th>' in page
    assert f"{figures.ranked[0].found[FIRST_TENTH].mean:.0%}" in page
    assert "holds the true count" in page
