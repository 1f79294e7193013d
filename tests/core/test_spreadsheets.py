"""CSV that people open: no text of anybody's is run as a formula, and nothing else changes."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.spreadsheets import safe_cell, write_csv


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
@pytest.mark.parametrize("before", ["", " ", "a;", "a,", "a\t", 'a"', "a\n"])
def test_no_cell_begins_like_a_formula_wherever_a_spreadsheet_cuts_the_line(before: str, sign: str) -> None:
    written = str(safe_cell(f"{before}{sign}1"))
    assert not any(cell.strip().startswith(sign) for cell in re.split(r"[;,\t\n\"]", written))


@given(value=st.integers() | st.floats(allow_nan=False) | st.text("abc 3.jpg/_", max_size=20))
def test_numbers_and_plain_names_stay_as_they_are(value: float | str) -> None:
    assert safe_cell(value) == value


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ("name", "count"), [("Größe.jpg", 3), ("-3.jpg", None)])
    with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [["name", "count"], ["Größe.jpg", "3"], ["'-3.jpg", ""]]
