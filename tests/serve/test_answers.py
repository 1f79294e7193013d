"""What an answer says: the mismatch probability, and the parsers alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.serve import v1, v2
from components.serve.answers import mismatch_probability
from components.serve.options import parse
from components.serve.refusal import Refusal

SCORES = st.lists(st.floats(0.001, 1), min_size=1, max_size=9).map(lambda raw: tuple(x / sum(raw) for x in raw))


@given(scores=SCORES, outside=st.none() | st.floats(0, 1), quantity=st.integers(0, 10**9))
def test_a_mismatch_probability_is_one_for_every_quantity_from_0(
    scores: tuple[float, ...], outside: float | None, quantity: int
) -> None:
    assert 0 <= mismatch_probability(quantity, scores, outside) <= 1


@given(scores=SCORES, outside=st.floats(0, 1))
def test_what_the_bin_holds_adds_up_to_certainty(scores: tuple[float, ...], outside: float) -> None:
    """The counts in range and 'any other' exclude each other, and one of them is true."""
    holds = [1 - mismatch_probability(count, scores, outside) for count in range(1, len(scores) + 1)]
    any_other = 1 - mismatch_probability(0, scores, outside)
    assert sum(holds) + any_other == pytest.approx(1)
    assert mismatch_probability(0, scores, outside) == mismatch_probability(len(scores) + 1, scores, outside)


def test_without_out_of_range_other_quantities_are_certainly_wrong() -> None:
    assert mismatch_probability(0, (0.5, 0.5), None) == 1
    assert mismatch_probability(1, (0.5, 0.5), None) == 0.5


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
