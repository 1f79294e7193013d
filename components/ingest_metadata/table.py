"""Records from a consolidated table: CSV, Parquet or JSON with an id and a quantity a row, or the challenge's list.

A column `bin` or `group` says which photos belong together, so that the split takes them as a whole.

The rows are staged in a SQLite file, which sorts them and finds ids that come twice without holding them in memory.
"""

import csv
import gzip
import io
import json
import math
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import UserError
from components.core.layout import IMAGE_ID
from components.core.place import local_file
from components.core.reasons import Reason
from components.core.records import Record, Reject
from components.ingest_metadata.parse import BadMetadata, checked_quantity
from components.ingest_metadata.sample import draw_sample

ID_COLUMNS = ("image_id", "id", "image")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}(\.0*)?", re.ASCII)
QUANTITY_COLUMNS = ("quantity", "expected_quantity", "count")
GROUP_COLUMNS = ("bin", "group")
BATCH = 10_000
_READ = 1 << 20
_LONGEST_ELEMENT = 4 << 20
_SEPARATORS = re.compile(r"[ \t\r\n,]*")

Row = tuple[object, object, object]  # id, quantity, group


def read_table(source: str, limit: int = 0, seed: int = 0) -> Iterator[list[Record | Reject]]:
    """Records in batches, sorted by id (as text), each id once; and rejects, in the order of the rows.

    With a limit, the records of a sample of id blocks only.
    Raises UserError when the file is missing or is no table with an id and a quantity.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = _local(source, Path(folder))
        with closing(sqlite3.connect(Path(folder) / "staged.db", isolation_level=None)) as staged:
            staged.execute("PRAGMA synchronous = OFF")
            staged.execute("PRAGMA journal_mode = OFF")
            staged.execute(
                "CREATE TABLE bins (image_id TEXT PRIMARY KEY, quantity INTEGER, together TEXT) WITHOUT ROWID"
            )
            staged.execute("BEGIN")
            for number, row in enumerate(_rows(path), start=1):
                reject = _stage(staged, number, row)
                if reject:
                    yield [reject]
            staged.execute("COMMIT")
            admits = draw_sample(_staged_ids(staged), limit, seed).admission() if limit else None
            rows = staged.execute("SELECT image_id, quantity, together FROM bins ORDER BY image_id")
            while batch := rows.fetchmany(BATCH):
                yield [
                    Record(image_id, quantity, group=group)
                    for image_id, quantity, group in batch
                    if admits is None or admits(image_id)
                ]


def _staged_ids(staged: sqlite3.Connection) -> Iterator[str]:
    return (image_id for (image_id,) in staged.execute("SELECT image_id FROM bins"))


def _local(source: str, folder: Path) -> Path:
    path = local_file(source, folder)
    if path is None:
        raise UserError(f"There is no table at {source}; check the address.")
    return path


def _stage(staged: sqlite3.Connection, number: int, row: Row) -> Reject | None:
    image_id, quantity, group = row
    together = "" if group is None else str(group).strip()
    place = f"row {number}"
    if not isinstance(image_id, str) or not IMAGE_ID.fullmatch(image_id):
        return Reject(place, Reason.BAD_ID, f"the id {str(image_id)[:60]!r} is not 1 to 12 digits as text")
    try:
        checked = checked_quantity(_number(quantity))
    except BadMetadata as error:
        return Reject(place, error.reason, f"id {image_id}: {error}")
    if staged.execute("INSERT OR IGNORE INTO bins VALUES (?, ?, ?)", (image_id, checked, together)).rowcount == 0:
        return Reject(place, Reason.DUPLICATE_ID, f"id {image_id} stands in an earlier row")
    return None


def _number(value: object) -> object:
    """A CSV field as the number it spells, a blank as None, anything else as it is."""
    if isinstance(value, str):
        stripped = value.strip()
        if not stripped:
            return None
        if _WHOLE_NUMBER.fullmatch(stripped):
            return int(stripped.partition(".")[0])
    # A column of numbers with a blank becomes one of floating point, where the blank is no number.
    return None if isinstance(value, float) and math.isnan(value) else value


def _rows(path: Path) -> Iterator[Row]:
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            yield from _parquet_rows(path)
            return
        with _opened(path) as file:
            yield from _csv_rows(file) if ".csv" in name else _json_rows(file)
    except (ValueError, RecursionError, csv.Error, pa.ArrowException, gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"{path.name} cannot be read as a table ({str(error)[:120]}); check the file.") from error


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv_rows(file: Iterable[str]) -> Iterator[Row]:
    reader = csv.reader(file)
    header = next(reader, [])
    places = _columns(header)
    for row in reader:
        if row:
            yield tuple(row[place] if 0 <= place < len(row) else None for place in places)  # type: ignore[misc]


def _parquet_rows(path: Path) -> Iterator[Row]:
    with pq.ParquetFile(path) as table:
        names = table.schema_arrow.names
        wanted = [names[place] if place >= 0 else None for place in _columns(names)]
        for batch in table.iter_batches(BATCH, columns=[name for name in wanted if name is not None]):
            columns = [[None] * len(batch) if name is None else batch[name].to_pylist() for name in wanted]
            yield from zip(*columns, strict=True)


def _columns(names: list[str]) -> tuple[int, int, int]:
    """Places of id, quantity and group; the last is -1 where there is none."""
    lowered = [name.strip().lower() for name in names]
    places = []
    for accepted in (ID_COLUMNS, QUANTITY_COLUMNS):
        found = [lowered.index(name) for name in accepted if name in lowered]
        if not found:
            raise UserError(f"The table has no column {accepted[0]}; it has {', '.join(names)[:200] or 'none'}.")
        places.append(found[0])
    group = next((lowered.index(name) for name in GROUP_COLUMNS if name in lowered), -1)
    return places[0], places[1], group


def _json_rows(file: IO[str]) -> Iterator[Row]:
    """Rows of a JSON array of objects, or of the challenge's pairs.

    The challenge (silverbottlep/abid_challenge) writes [index, quantity], where index 0 is the bin 00001.
    """
    for element in _json_elements(file):
        if isinstance(element, dict):
            lowered = {str(name).lower(): value for name, value in element.items()}
            yield tuple(  # type: ignore[misc]
                next((lowered[name] for name in accepted if name in lowered), None)
                for accepted in (ID_COLUMNS, QUANTITY_COLUMNS, GROUP_COLUMNS)
            )
        elif isinstance(element, list) and len(element) == 2 and type(element[0]) is int and element[0] >= 0:
            yield f"{element[0] + 1:05d}", element[1], None
        else:
            yield None, None, None


def _json_elements(file: IO[str]) -> Iterator[Any]:
    """Elements of a JSON array, one at a time, so that memory does not grow with the file."""
    decoder = json.JSONDecoder()
    text = file.read(_READ).lstrip()
    if not text.startswith("["):
        raise UserError('The table is not a JSON array; write [{"image_id": "00001", "quantity": 3}, …].')
    place = 1
    while True:
        place = _SEPARATORS.match(text, place).end()  # type: ignore[union-attr]
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
