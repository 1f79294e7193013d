"""The step: from a source to the records table, the rejects table and the report."""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from components.core.concurrent import progress
from components.core.errors import UserError
from components.core.layout import METADATA_PREFIX
from components.core.records import RECORDS_SCHEMA, REJECTS_SCHEMA, Record, Reject, TableWriter
from components.core.recounts import Labels, read_labels
from components.core.source import Source, is_table
from components.core.store import open_store
from components.ingest_metadata.bucket import BucketReader
from components.ingest_metadata.relabel import Relabelling
from components.ingest_metadata.report import write_report
from components.ingest_metadata.table import read_table


@dataclass(frozen=True)
class IngestOptions:
    """What to read (a bucket or a table, all of it or a sample of `limit` bins) and where state between attempts lies.

    `recounts` is the bucket whose recounts are labels before the records, "" for none. `snapshot` only names the state
    of source and recounts: what is read depends on what is there.
    """

    source: str
    data_uri: str
    limit: int = 0
    max_count: int = 5
    seed: int = 0
    snapshot: str = ""
    recounts: str = ""


@dataclass
class Tally:
    """What an ingest did."""

    records: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    reused: int = 0

    def add(self, outcomes: list[Record | Reject]) -> None:
        """Count a batch."""
        for outcome in outcomes:
            if isinstance(outcome, Record):
                self.records += 1
            else:
                self.rejects[outcome.reason] += 1


def ingest(options: IngestOptions, records_path: Path, rejects_path: Path, report_path: Path) -> Tally:
    """Read every bin of the source and write records, rejects and report. Prints a summary.

    Raises UserError when the source is empty, cannot be reached, or holds not one usable record.
    """
    tally = Tally()
    labels = read_labels(open_store(options.recounts)) if options.recounts else Labels.of([])
    relabelling = Relabelling(labels)
    with (
        TableWriter.open(records_path, RECORDS_SCHEMA) as records,
        TableWriter.open(rejects_path, REJECTS_SCHEMA) as rejects,
    ):
        asyncio.run(_read(options, relabelling, records, rejects, tally))
        if not tally.records:
            raise UserError(_nothing(options.source, tally))
    rejected = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.rejects.items())) or "none"
    print(f"records: {tally.records:,}, of these {tally.reused:,} known from an earlier attempt or snapshot")
    print(f"rejects: {rejected}; snapshot: {options.snapshot or 'unnamed'}")
    if said := relabelling.told():
        print(f"recounts: {said}")
    write_report(records_path, rejects_path, report_path, options.max_count, options.source, relabelling)
    return tally


async def _read(
    options: IngestOptions, relabelling: Relabelling, records: TableWriter, rejects: TableWriter, tally: Tally
) -> None:
    def take(outcomes: list[Record | Reject]) -> None:
        records.append(relabelling.apply(outcome) for outcome in outcomes if isinstance(outcome, Record))
        rejects.append(outcome for outcome in outcomes if isinstance(outcome, Reject))
        tally.add(outcomes)

    metadata = Source.parse(options.source).metadata
    if is_table(metadata):
        with progress(None, "table rows") as bar:
            for batch in read_table(metadata, options.limit, options.seed):
                take(batch)
                bar.update(len(batch))
        return
    reader = await asyncio.to_thread(_bucket_reader, metadata, options)
    with progress(None, "metadata files") as bar:
        counting = asyncio.create_task(_count(reader, bar))
        try:
            async for outcomes in reader.read():
                take(outcomes)
                bar.update(len(outcomes))
        finally:
            counting.cancel()
    tally.reused = reader.reused
    print(f"reading: {reader.source.told_retries()}; state: {reader.state.told_retries()}")


def _bucket_reader(metadata: str, options: IngestOptions) -> BucketReader:
    return BucketReader(open_store(metadata), open_store(options.data_uri), options.limit, options.seed)


async def _count(reader: BucketReader, bar: "tqdm[Any]") -> None:
    """Count the files beside the reading, so that the bar can tell the time left. Reading reports errors, not this."""
    with suppress(UserError):
        bar.total = await asyncio.to_thread(reader.count)


def _nothing(source: str, tally: Tally) -> str:
    if not tally.rejects:
        return f"There is no metadata at {source} (a bucket holds it under {METADATA_PREFIX}); check SOURCE."
    reason, count = tally.rejects.most_common(1)[0]
    return f"Not one of the {tally.rejects.total():,} metadata files of {source} is usable; {count:,} are: {reason}."
