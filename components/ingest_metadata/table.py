"""Records from a consolidated table: CSV, Parquet or JSON with an id and a quantity a row, or the challenge's list.

A column `bin` or `group` says which photos belong together, so that the split takes them as a whole.

The rows are staged in a SQLite file, which sorts them and finds ids that come twice without holding them in memory.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from components.core.errors import UserError
from components.core.layout import IMAGE_ID
from components.core.place import local_file
from components.core.reasons import Reason
from components.core.records import Record, Reject
from components.core.tables import (
    Column,
    as_text,
    json_elements,
    object_row,
    opened,
    read_rows,
    spelled_number,
    told_of,
)
from components.ingest_metadata.parse import BadMetadata, checked_quantity
from components.ingest_metadata.sample import draw_sample

COLUMNS = (
    Column(("image_id", "id", "image")),
    Column(("quantity", "expected_quantity", "count")),
    Column(("bin", "group"), needed=False),
    Column(("file",), needed=False),
)
BATCH = 10_000


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
                "CREATE TABLE bins "
                "(image_id TEXT PRIMARY KEY, quantity INTEGER, together TEXT, file TEXT) WITHOUT ROWID"
            )
            staged.execute("BEGIN")
            for number, row in enumerate(_rows(path), start=1):
                reject = _stage(staged, number, row)
                if reject:
                    yield [reject]
            staged.execute("COMMIT")
            admits = draw_sample(_staged_ids(staged), limit, seed).admission() if limit else None
            rows = staged.execute("SELECT image_id, quantity, together, file FROM bins ORDER BY image_id")
            while batch := rows.fetchmany(BATCH):
                yield [
                    Record(image_id, quantity, group=group, file=file)
                    for image_id, quantity, group, file in batch
                    if admits is None or admits(image_id)
                ]


def _staged_ids(staged: sqlite3.Connection) -> Iterator[str]:
    return (image_id for (image_id,) in staged.execute("SELECT image_id FROM bins"))


def _local(source: str, folder: Path) -> Path:
    path = local_file(source, folder)
    if path is None:
        raise UserError(f"There is no table at {source}; check the address.")
    return path


def _stage(staged: sqlite3.Connection, number: int, row: tuple[object, ...]) -> Reject | None:
    image_id, quantity, group, file = row
    place = f"row {number}"
    if not isinstance(image_id, str) or not IMAGE_ID.fullmatch(image_id):
        return Reject(place, Reason.BAD_ID, f"the id {str(image_id)[:60]!r} is not 1 to 12 digits as text")
    try:
        checked = checked_quantity(spelled_number(quantity))
    except BadMetadata as error:
        return Reject(place, error.reason, f"id {image_id}: {error}")
    if (
        staged.execute(
            "INSERT OR IGNORE INTO bins VALUES (?, ?, ?, ?)", (image_id, checked, as_text(group), as_text(file))
        ).rowcount
        == 0
    ):
        return Reject(place, Reason.DUPLICATE_ID, f"id {image_id} stands in an earlier row")
    return None


def _rows(path: Path) -> Iterator[tuple[object, ...]]:
    """Id, quantity, group and file of each row; of a JSON array also of the challenge's pairs.

    The challenge (silverbottlep/abid_challenge) writes [index, quantity], where index 0 is the bin 00001.
    """
    if not path.name.lower().removesuffix(".gz").endswith(".json"):
        yield from read_rows(path, COLUMNS)
        return
    with told_of(path), opened(path) as file:
        for element in json_elements(file):
            if isinstance(element, list) and len(element) == 2 and type(element[0]) is int and element[0] >= 0:
                yield f"{element[0] + 1:05d}", element[1], None, None
            else:
                yield object_row(element, COLUMNS)
