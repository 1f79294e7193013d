"""The tables that go from step to step: records of bins, their split into subsets, and what was left out.

All are Parquet with a fixed schema, written so that the same rows give the same bytes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import UserError
from components.core.files import written_whole

SUBSETS = ("train", "validation", "test", "extra")

RECORDS_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("quantity", pa.int32()),
        ("products", pa.int32()),  # distinct products; null where the source says nothing of the contents
        ("contents", pa.string()),  # a hash of what is in the bin; empty where that is nothing or unknown
        ("consistent", pa.bool_()),  # quantity equals the sum over the contents; null where these are unknown
        ("weight", pa.float32()),  # pounds, all items together; null where any is unknown
        ("volume", pa.float32()),  # cubic inches, likewise
        ("group", pa.string()),  # what the split must keep together; empty where the source does not say
        ("file", pa.string()),  # what its owner calls the photo; empty where that is its id
        ("product_list", pa.string()),  # the products as `BinRecord.encoded` writes them; empty where they are unknown
    ]
)
SPLITS_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("quantity", pa.int32()),
        ("contents", pa.string()),
        ("subset", pa.string()),
        # The subset of the bin's block: the same as `subset`, and for extra bins the side they may be used on.
        ("block_subset", pa.string()),
        ("file", pa.string()),  # as in RECORDS_SCHEMA
        ("product_list", pa.string()),  # as in the records
    ]
)
REJECTS_SCHEMA = pa.schema([("key", pa.string()), ("reason", pa.string()), ("detail", pa.string())])

# Neighbouring ids often show the same pod. In the real sample 41 % of the pairs at distance 1 share a product, 3 % at
# distance 2 and none from 3 on, so runs of this many ids are kept together.
BLOCK_SIZE = 20
PADDED_DIGITS = 5


@dataclass(frozen=True)
class Record:
    """One bin as its metadata describes it; fields as in RECORDS_SCHEMA."""

    image_id: str
    quantity: int
    products: int | None = None
    contents: str = ""
    consistent: bool | None = None
    weight: float | None = None
    volume: float | None = None
    group: str = ""
    file: str = ""
    product_list: str = ""


@dataclass(frozen=True)
class Reject:
    """Something that was left out: its key in the source, a reason to group by, and what exactly was wrong."""

    key: str
    reason: str
    detail: str


class Block(NamedTuple):
    """A run of BLOCK_SIZE neighbouring ids."""

    padded: bool
    number: int


def block_of(image_id: str) -> Block:
    """The block of an id.

    The dataset counts twice: 00001, 00002, … 99999, 100000, … is one series of photos, 1, 2, … 1200 is another. So an
    unpadded id never shares a block with the padded one of the same number.
    """
    padded = len(image_id) >= PADDED_DIGITS or image_id.startswith("0")
    return Block(padded, int(image_id) // BLOCK_SIZE)


class TableWriter:
    """Writes rows to a Parquet file as they come."""

    def __init__(self, file: pq.ParquetWriter, schema: pa.Schema, rows_per_group: int) -> None:
        self._file = file
        self._schema = schema
        self._rows_per_group = rows_per_group
        self._pending: list[tuple[object, ...]] = []

    @classmethod
    @contextmanager
    def open(cls, path: str | Path, schema: pa.Schema, rows_per_group: int = 20_000) -> Iterator["TableWriter"]:
        """The file appears whole when the block ends well, or not at all."""
        with written_whole(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as file:
            table = cls(file, schema, rows_per_group)
            yield table
            table.flush()

    def append(self, rows: Iterable[Record | Reject]) -> None:
        """Add rows; memory holds one row group at most."""
        for row in rows:
            self._pending.append(tuple(vars(row).values()))
            if len(self._pending) == self._rows_per_group:
                self.flush()

    def flush(self) -> None:
        """End the row group, if it has rows."""
        if not self._pending:
            return
        columns = zip(*self._pending, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._pending.clear()


def write_rejects(path: str | Path, rejects: Iterable[Reject]) -> None:
    """Write the table of what was left out, in the order given."""
    with TableWriter.open(path, REJECTS_SCHEMA) as table:
        table.append(rejects)


def read_rejects(path: str | Path) -> list[Reject]:
    """Read it back. Raises UserError when the file is not such a table."""
    return [Reject(**row) for row in _read(path, REJECTS_SCHEMA).to_pylist()]


def read_records(path: str | Path) -> pd.DataFrame:
    """All records; columns as in RECORDS_SCHEMA. Raises UserError when the file is not such a table."""
    return _read(path, RECORDS_SCHEMA).to_pandas()


def iterate_records(path: str | Path) -> Iterator[pd.DataFrame]:
    """The records in batches, for totals over a table of any size."""
    with _explained(path), pq.ParquetFile(path) as table:
        for batch in table.iter_batches(20_000):
            yield batch.to_pandas()


def iterate_rejects(path: str | Path) -> Iterator[Reject]:
    """The rejects one by one, likewise."""
    with _explained(path), pq.ParquetFile(path) as table:
        for batch in table.iter_batches(20_000):
            yield from (Reject(**row) for row in batch.to_pylist())


def write_splits(path: str | Path, splits: pd.DataFrame) -> None:
    """Write the split; columns as in SPLITS_SCHEMA."""
    missing = {name: "" for name in ("file", "product_list") if name not in splits}
    splits = splits.assign(**missing)
    table = pa.Table.from_pandas(splits, SPLITS_SCHEMA, preserve_index=False).replace_schema_metadata(None)
    with written_whole(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read_splits(path: str | Path) -> pd.DataFrame:
    """The split: a row a bin, columns as in SPLITS_SCHEMA. Raises UserError when the file is not such a table."""
    return _read(path, SPLITS_SCHEMA).to_pandas()


def _read(path: str | Path, schema: pa.Schema) -> pa.Table:
    with _explained(path):
        return pq.read_table(path, columns=schema.names).cast(schema)


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    """Turn the reader's errors into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"There is no table at {path}; run the step that writes it first.") from error
    except (pa.ArrowException, KeyError) as error:
        raise UserError(f"{path} is not a table this step can read; run the step that writes it again.") from error
