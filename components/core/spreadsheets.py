"""CSV that people open in spreadsheets: a text that begins like a formula would be run."""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from components.core.files import written_whole

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Where its language writes lists with semicolons or tabs a spreadsheet cuts a line at those, quoted or not, so that a
# formula could begin behind any of them. Full-width signs are read as signs too.
_FORMULA = re.compile("(^|[;,|:\"'])(\\s*)(?=[=+\\-@\uff1d\uff0b\uff0d\uff20])")


def safe_cell(value: object) -> object:
    """A cell that no spreadsheet runs: numbers as they are, a text with an apostrophe before what begins a formula."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    return _FORMULA.sub(r"\1\2'", _CONTROL.sub(" ", value))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table for people, whole, in UTF-8 with a mark that Excel needs to know it by."""
    with written_whole(path) as partial, partial.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows([safe_cell(cell) for cell in row] for row in rows)
