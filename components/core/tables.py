"""Tables that people make: CSV with any usual separator, TSV, Parquet, or a JSON array of objects.

`read_rows` gives the columns that are asked for, one row at a time, under any of their usual names; `read_photo_table`
reads a table with a row a photo. What is written is not changed: names keep their case, values their zeros.
"""

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import UserError

SUFFIXES = (".csv", ".tsv", ".parquet", ".json")  # the first two and the last also with .gz behind
SEPARATORS = (",", ";", "\t")
_BATCH = 10_000
_READ = 1 << 20
_LONGEST_ELEMENT = 4 << 20
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}([.,]0*)?", re.ASCII)


@dataclass(frozen=True)
class Column:
    """A column by the names that people give it, the first being ours; without `needed` a table may lack it."""

    spellings: tuple[str, ...]
    needed: bool = True

    @property
    def name(self) -> str:
        """What we call it."""
        return self.spellings[0]


FILE = Column(("file", "filename", "file_name", "photo", "image", "path", "name", "image_id", "id"))
COUNT = Column(("count", "quantity", "expected_quantity", "recorded_quantity", "items", "qty", "number"))
BIN = Column(("bin", "bin_id", "group", "location"), needed=False)
SITE = Column(("site", "warehouse", "fc"), needed=False)
CAMERA = Column(("camera", "device"), needed=False)
TAKEN_AT = Column(("taken_at", "taken", "date", "time", "timestamp"), needed=False)


@dataclass(frozen=True)
class PhotoRow:
    """A row of a table of photos. `count` is None where `problem` says what is wrong with it, as a clause.

    `row` counts from 1 below the header. The further fields are as written, "" where there is none.
    """

    row: int
    file: str
    count: int | None
    problem: str
    bin: str = ""
    site: str = ""
    camera: str = ""
    taken_at: str = ""


def is_table_file(path: Path) -> bool:
    """Whether a file is a table by its name."""
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def read_photo_table(path: Path) -> list[PhotoRow]:
    """All rows of a table with a photo's file and count a row. Raises UserError for a file that is no such table."""
    columns = (FILE, COUNT, BIN, SITE, CAMERA, TAKEN_AT)
    return [_photo_row(number, row) for number, row in enumerate(read_rows(path, columns), start=1)]


def _photo_row(number: int, row: tuple[object, ...]) -> PhotoRow:
    file, written, *further = row
    value = spelled_number(written)
    count, problem = None, ""
    if value is None:
        problem = "it has no count"
    elif not isinstance(value, int) or isinstance(value, bool) or value < 0:
        problem = f"its count is {str(written)[:40]!r}, not a whole number from 0"
    else:
        count = value
    return PhotoRow(number, as_text(file), count, problem, *map(as_text, further))


def as_text(value: object) -> str:
    """A cell as written, without blanks around it; "" for none. A float that is whole loses its `.0`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def spelled_number(value: object) -> object:
    """A cell as the whole number it spells, a blank as None, anything else as it is."""
    if isinstance(value, str):
        stripped = value.strip()
        if not stripped:
            return None
        return int(re.split("[.,]", stripped)[0]) if _WHOLE_NUMBER.fullmatch(stripped) else value
    if isinstance(value, float):
        # A column of numbers with a blank becomes one of floating point, where the blank is no number.
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


def read_rows(path: Path, columns: Sequence[Column]) -> Iterator[tuple[object, ...]]:
    """The columns of each row, in the order asked for; None where a table or a row has none.

    Raises UserError when the file cannot be read, or lacks a column that is needed.
    """
    with told_of(path):
        kind = path.name.lower().removesuffix(".gz")
        if kind.endswith(".parquet"):
            yield from _parquet_rows(path, columns)
            return
        with opened(path) as file:
            if kind.endswith(".json"):
                yield from (object_row(element, columns) for element in json_elements(file))
            else:
                yield from _separated_rows(file, columns)


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """What readers raise of a broken table in one sentence. Raises UserError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path.name} cannot be read as a table (it is not UTF-8); save it as UTF-8, in Excel as 'CSV UTF-8'."
        ) from error
    except (ValueError, RecursionError, csv.Error, pa.ArrowException, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path.name} cannot be read as a table ({str(error)[:120]}); check the file.") from error


def opened(path: Path) -> IO[str]:
    """A text file, packed or not, whose mark of order is passed over."""
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if path.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding=encoding, newline="")


def object_row(element: object, columns: Sequence[Column]) -> tuple[object, ...]:
    """The columns of a JSON object; all None for anything else."""
    if not isinstance(element, dict):
        return (None,) * len(columns)
    lowered = {str(name).strip().lower(): value for name, value in element.items()}
    return tuple(next((lowered[name] for name in one.spellings if name in lowered), None) for one in columns)


def _separated_rows(file: Iterable[str], columns: Sequence[Column]) -> Iterator[tuple[object, ...]]:
    lines = iter(file)
    header = next(lines, "")
    separator = max(SEPARATORS, key=header.count)
    places = _places(next(csv.reader([header], delimiter=separator), []), columns)
    for row in csv.reader(lines, delimiter=separator):
        if row:
            yield tuple(row[place] if 0 <= place < len(row) else None for place in places)


def _parquet_rows(path: Path, columns: Sequence[Column]) -> Iterator[tuple[object, ...]]:
    with pq.ParquetFile(path) as table:
        names = table.schema_arrow.names
        wanted = [names[place] if place >= 0 else None for place in _places(names, columns)]
        for batch in table.iter_batches(_BATCH, columns=[name for name in wanted if name is not None]):
            found = [[None] * len(batch) if name is None else batch[name].to_pylist() for name in wanted]
            yield from zip(*found, strict=True)


def _places(names: list[str], columns: Sequence[Column]) -> list[int]:
    """Where each column stands; -1 for one that there is not. Raises UserError for one that is needed."""
    lowered = [name.strip().lower() for name in names]
    places = [next((lowered.index(name) for name in one.spellings if name in lowered), -1) for one in columns]
    for column, place in zip(columns, places, strict=True):
        if column.needed and place < 0:
            others = f" (or {', '.join(column.spellings[1:])})" if column.spellings[1:] else ""
            raise UserError(
                f"The table has no column {column.name}{others}; it has {', '.join(names)[:200].strip() or 'none'}."
            )
    return places


def json_elements(file: IO[str]) -> Iterator[Any]:
    """Elements of a JSON array, one at a time, so that memory does not grow with the file. Raises UserError."""
    decoder = json.JSONDecoder()
    text = file.read(_READ).lstrip()
    if not text.startswith("["):
        raise UserError('The table is not a JSON array; write [{"image_id": "00001", "quantity": 3}, …].')
    place = 1
    while True:
        place = _BETWEEN.match(text, place).end()  # type: ignore[union-attr]
        if text.startswith("]", place):
            return
        try:
            element, end = decoder.raw_decode(text, place)
            whole = end < len(text)  # a number at the very end may go on in what comes next
        except json.JSONDecodeError:
            if len(text) - place > _LONGEST_ELEMENT:
                raise
            whole = False
        if not whole:
            more = file.read(_READ)
            if not more:
                raise json.JSONDecodeError("the array does not end", "", 0)
            text, place = text[place:] + more, 0
            continue
        yield element
        place = end
