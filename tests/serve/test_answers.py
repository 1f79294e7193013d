"""What an answer says: the mismatch probability, and the parsers alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.contents import BinRecord
from components.core.runtime import Prediction
from components.serve import v1, v2
from components.serve.answers import Judge
from components.serve.options import parse
from components.serve.refusal import Refusal
from tests.small_model import record_model

SCORES = st.lists(st.floats(0.001, 1), min_size=1, max_size=9).map(lambda raw: tuple(x / sum(raw) for x in raw))


def prediction(scores: tuple[float, ...], empty: float | None, more: float) -> Prediction:
    """What a model says of one photo; it tells nothing of other bins where `empty` is None."""
    if empty is None:
        return Prediction(np.array([scores], np.float32), None)
    outside = np.array([[empty, more]], np.float32)
    return Prediction(np.array([scores], np.float32), outside.sum(axis=1), outside)


@given(scores=SCORES, empty=st.none() | st.floats(0, 0.5), more=st.floats(0, 0.5), quantity=st.integers(0, 10**9))
def test_what_is_said_of_a_record_is_a_probability_or_nothing(
    scores: tuple[float, ...], empty: float | None, more: float, quantity: int
) -> None:
    judge = Judge(record_model(len(scores)))
    (answer,) = judge.answers(prediction(scores, empty, more), [BinRecord(quantity)])
    for probability in (answer.mismatch_probability, answer.photo_mismatch):
        assert probability is None or 0 <= probability <= 1
    assert (answer.mismatch_probability is None) == (empty is None or quantity > len(scores))
    assert answer.likeliest_count is None or 0 <= answer.likeliest_count <= len(scores)


@given(scores=SCORES, empty=st.floats(0, 0.5), more=st.floats(0, 0.5))
def test_what_the_bin_holds_by_the_photo_adds_up_to_certainty(
    scores: tuple[float, ...], empty: float, more: float
) -> None:
    """0, the counts in range and more exclude each other, and one of them is true."""
    told = prediction(scores, empty, more)
    answers = [Judge(None).answers(told, [BinRecord(quantity)])[0] for quantity in range(len(scores) + 1)]
    holds = [1 - answer.photo_mismatch for answer in answers if answer.photo_mismatch is not None]
    assert len(holds) == len(scores) + 1
    assert sum(holds) + more == pytest.approx(1, abs=1e-6)


def test_a_model_that_knows_nothing_of_records_or_of_other_bins_says_what_the_photo_does() -> None:
    told = prediction((0.5, 0.5), None, 0.0)
    for quantity, expected in ((0, None), (1, 0.5), (3, None)):
        (answer,) = Judge(None).answers(told, [BinRecord(quantity)])
        assert (answer.mismatch_probability, answer.photo_mismatch, answer.likeliest_count) == (None, expected, None)


def test_more_wrong_records_make_one_less_believed() -> None:
    told = prediction((0.2, 0.5, 0.3), 0.1, 0.1)
    few, many = (
        Judge(record_model(3), rate).answers(told, [BinRecord(1)])[0].mismatch_probability for rate in (0.01, 0.3)
    )
    assert few is not None
    assert many is not None
    assert few < many


@given(body=st.binary(max_size=200), length=st.none() | st.text(max_size=5))
def test_parsers_refuse_and_never_fail(body: bytes, length: str | None) -> None:
    for parse_body in (lambda: v1.photos_from_json(body, 8, 99), lambda: v2.request_from_http(body, length, 8, 99)):
        with pytest.raises(Refusal):
            parse_body()


@given(raw=st.binary(max_size=60), shape=st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_binary_tensors_hold_what_they_say_or_are_refused(raw: bytes, shape: list[int]) -> None:
    tensor = v2.Tensor("image", "BYTES", tuple(shape), raw=raw)
    try:
        photos = v2.photos_from_tensors([tensor], 8, base64_values=False)
    except Refusal:
        return
    assert sum(4 + len(photo.data) for photo in photos) == len(raw)


def test_flags_have_the_names_of_kserves_own() -> None:
    options = parse(["--model_dir", "m", "--http_port", "0", "--enable_grpc", "false", "--model_name", "x"])
    assert (options.http_port, options.enable_grpc, options.model_name, options.host) == (0, False, "x", "127.0.0.1")


@pytest.mark.parametrize("rate", ["0", "1", "-0.1", "5 %", "nan"])
def test_an_error_rate_that_is_no_share_is_refused(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--model_dir", "m", "--error_rate", rate])
    assert f"'{rate}' is no share between 0 and 1" in capsys.readouterr().err
