"""A recount labels a photo only where nothing moved between the two."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.audit.moves import moment_of, read_moves
from components.core.errors import UserError
from components.core.recounts import Recount


def recount(taken_at: str, when: str, bin: str = "A1") -> Recount:  # noqa: A002 - as the column is called
    return Recount("a.jpg", 3, 2, "ranked", 1.0, 0.4, bin=bin, taken_at=taken_at, when=when)


def moves_at(folder: Path, *times: str) -> Path:
    path = folder / "moves.csv"
    path.write_text("bin,moved_at\n" + "".join(f"A1,{time}\n" for time in times))
    return path


@pytest.mark.parametrize(
    ("moved", "taken_at", "when", "between"),
    [
        ("2026-11-02 10:00", "2026-11-01 09:00", "2026-11-03 09:00", True),
        ("2026-11-04 10:00", "2026-11-01 09:00", "2026-11-03 09:00", False),
        ("2026-10-31", "2026-11-01 09:00", "2026-11-03 09:00", False),
        ("2026-11-03", "2026-11-01 09:00", "2026-11-03 09:00", True),  # that day, perhaps before nine
        ("2026-11-03 10:00", "2026-11-01", "2026-11-03", True),  # counted that day, perhaps after ten
        ("2026-11-02T10:00:00+02:00", "2026-11-02T08:30:00Z", "2026-11-03", False),  # half an hour before the photo
        ("2026-11-02", "", "2026-11-03", True),  # nobody knows when the photo was taken
        ("2026-11-04", "", "2026-11-03", False),
        ("2026-11-04", "2026-11-01", "last Tuesday", True),
    ],
)
def test_a_move_between_photo_and_recount_is_one_that_may_have_been(
    tmp_path: Path, moved: str, taken_at: str, when: str, between: bool
) -> None:
    assert read_moves(str(moves_at(tmp_path, moved))).between(recount(taken_at, when)) is between


def test_moves_of_another_bin_and_the_word_none_change_nothing(tmp_path: Path) -> None:
    assert not read_moves(str(moves_at(tmp_path, "2026-11-02"))).between(recount("", "", bin="B7"))
    assert not read_moves("None").between(recount("", ""))


@given(moment=st.datetimes().map(lambda one: one.replace(microsecond=0)))
def test_a_time_lies_within_its_day(moment: object) -> None:
    exact, day = moment_of(str(moment)), moment_of(str(moment).split()[0])
    assert exact is not None
    assert day is not None
    assert day.earliest <= exact.earliest == exact.latest <= day.latest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bin,moved_at\nA1,02.11.26\n", r"Row 1 of moves\.csv has the time '02\.11\.26'; write it like 2026-11-27"),
        ("bin,moved_at\n,2026-11-02\n", "Row 1 of moves.csv names no bin"),
        ("shelf,level\nA1,2\n", "The table has no column bin"),
    ],
)
def test_a_table_that_tells_no_moves_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "moves.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as refused:
        read_moves(str(path))
    assert "\n" not in str(refused.value)


def test_a_table_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"MOVES=moved\.csv: there is no such file; give a table"):
        read_moves("moved.csv")
