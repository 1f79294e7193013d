"""Records from the metadata files of a bucket, read concurrently and remembered by ETag.

The listing is cut into parts of about PART_KEYS keys at places that depend on the keys alone. What was read of a part
lies under the state prefix of our own bucket, so an interrupted ingest goes on where it was, and an ingest of a bucket
that grew reads only what is new or changed.
"""

import asyncio
import hashlib
import io
import json
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.code import code_digest
from components.core.concurrent import Threads, in_order
from components.core.layout import IMAGE_ID, METADATA_PREFIX, state_prefix
from components.core.reasons import PASSING, Reason
from components.core.records import RECORDS_SCHEMA, Record, Reject
from components.core.store import ObjectCorrupt, ObjectInfo, ObjectMissing, Store
from components.ingest_metadata.parse import BadMetadata, parse_metadata
from components.ingest_metadata.sample import draw_sample

PART_KEYS = 1000
PARTS_UNDER_WAY = 4
PORTION = 8  # files that one thread reads one after the other

_PART_SCHEMA = pa.schema(
    [("key", pa.string()), ("etag", pa.string()), ("reason", pa.string()), ("detail", pa.string()), *RECORDS_SCHEMA]
)
_NO_RECORD = (None,) * len(RECORDS_SCHEMA)

Outcome = Record | Reject


@dataclass
class Part:
    """A run of listed keys. `name` is the id after which it begins."""

    name: str
    entries: list[ObjectInfo] = field(default_factory=list)


@dataclass
class Known:
    """What earlier attempts read, by key: the ETag it had and what came of it."""

    outcomes: dict[str, tuple[str, Outcome]] = field(default_factory=dict)

    def find(self, entry: ObjectInfo) -> Outcome | None:
        """The outcome of exactly these bytes."""
        etag, outcome = self.outcomes.get(entry.key, ("", None))
        return outcome if etag and etag == entry.etag else None


def image_id_of(key: str) -> str | None:
    """The id in a metadata key; None for a key outside the layout."""
    name = key.removeprefix(METADATA_PREFIX).removesuffix(".json")
    inside = key == f"{METADATA_PREFIX}{name}.json" and IMAGE_ID.fullmatch(name)
    return name if inside else None


def cut_parts(listing: Iterable[ObjectInfo]) -> Iterator[Part]:
    """Cut the listing behind every id whose checksum says so: a new key changes one part, not all that follow."""
    part = Part("start")
    for entry in listing:
        part.entries.append(entry)
        image_id = image_id_of(entry.key)
        if image_id is not None and zlib.crc32(image_id.encode()) % PART_KEYS == 0:
            yield part
            part = Part(image_id)
    if part.entries:
        yield part


class BucketReader:
    """Reads the metadata of one bucket. `reused` counts what earlier attempts had read already."""

    def __init__(self, source: Store, state: Store, limit: int, seed: int) -> None:
        self.source = source
        self.state = state
        self.sample = draw_sample(self._listed_ids(), limit, seed) if limit else None
        made_by = code_digest(parse_metadata, image_id_of, cut_parts, _packed)
        settings = json.dumps([str(source.location), limit, seed if limit else 0, made_by])
        self.prefix = state_prefix("ingest_metadata", hashlib.sha256(settings.encode()).hexdigest()[:16])
        self.reused = 0
        self._previous: asyncio.Future[Known] | None = None

    def count(self) -> int:
        """How many files there are to read; lists the bucket unless a sample was drawn."""
        return self.sample.total if self.sample else sum(1 for _ in self.source.list(METADATA_PREFIX))

    async def read(self) -> AsyncIterator[list[Outcome]]:
        """Records and rejects, part by part, in the order of the listing."""
        with Threads() as threads:
            try:
                work = partial(self._read_part, threads)
                async for outcomes in in_order(cut_parts(self._listing()), work, PARTS_UNDER_WAY):
                    yield outcomes
            except BaseException:
                self.source.abandon()
                raise

    def _listed_ids(self) -> Iterator[str]:
        ids = (image_id_of(entry.key) for entry in self.source.list(METADATA_PREFIX))
        return (image_id for image_id in ids if image_id is not None)

    def _listing(self) -> Iterator[ObjectInfo]:
        """What to read; keys outside the layout are part of the whole, not of a sample."""
        admits = self.sample.admission() if self.sample else None
        for entry in self.source.list(METADATA_PREFIX):
            image_id = image_id_of(entry.key)
            if admits is None or (image_id is not None and admits(image_id)):
                yield entry

    async def _read_part(self, threads: Threads, part: Part) -> list[Outcome]:
        known, remembered = await self._known(part.name)
        found = [known.find(entry) for entry in part.entries]
        self.reused += sum(outcome is not None for outcome in found)
        unknown = [entry for entry, outcome in zip(part.entries, found, strict=True) if outcome is None]
        read = iter(await threads.each(self._read_one, unknown, PORTION))
        outcomes = [next(read) if outcome is None else outcome for outcome in found]
        if unknown or not remembered:
            await asyncio.to_thread(self._remember, part, outcomes)
        return outcomes

    def _remember(self, part: Part, outcomes: list[Outcome]) -> None:
        self.state.put(self._part_key(part.name), _packed(part.entries, outcomes))

    def _read_one(self, entry: ObjectInfo) -> Outcome:
        image_id = image_id_of(entry.key)
        if image_id is None:
            return Reject(entry.key, Reason.OUTSIDE_THE_LAYOUT, f"the key is not {METADATA_PREFIX}<digits>.json")
        try:
            return parse_metadata(image_id, self.source.fetch(entry.key))
        except BadMetadata as error:
            return Reject(entry.key, error.reason, str(error))
        except ObjectMissing:
            return Reject(entry.key, Reason.MISSING, "it was listed, but is not there")
        except ObjectCorrupt as error:
            return Reject(entry.key, Reason.DAMAGED, str(error))

    def _part_key(self, name: str) -> str:
        return f"{self.prefix}{name}.parquet"

    async def _known(self, name: str) -> tuple[Known, bool]:
        """What is known of a part, and whether it stands under its own name.

        A part that begins at a new key was the end of the part before it.
        """
        before, self._previous = self._previous, asyncio.get_running_loop().create_future()
        mine = self._previous
        try:
            known, remembered = await asyncio.to_thread(self._recall, name), True
        except (ObjectMissing, pa.ArrowException):
            known, remembered = (await before if before else Known()), False
        mine.set_result(known)
        return known, remembered

    def _recall(self, name: str) -> Known:
        return _unpacked(self.state.get(self._part_key(name)))


def _packed(entries: list[ObjectInfo], outcomes: list[Outcome]) -> bytes:
    rows: list[tuple[object, ...]] = []
    for entry, outcome in zip(entries, outcomes, strict=True):
        # What may be right the next time is asked for again the next time.
        passing = isinstance(outcome, Reject) and outcome.reason in PASSING
        reason = (outcome.reason, outcome.detail) if isinstance(outcome, Reject) else (None, None)
        record = vars(outcome).values() if isinstance(outcome, Record) else _NO_RECORD
        rows.append((entry.key, "" if passing else entry.etag, *reason, *record))
    columns = [
        pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _PART_SCHEMA, strict=True)
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=_PART_SCHEMA), file, compression="zstd")
    return file.getvalue()


def _unpacked(data: bytes) -> Known:
    known = Known()
    columns = pq.read_table(io.BytesIO(data), schema=_PART_SCHEMA).columns
    for key, etag, reason, detail, *row in zip(*(column.to_pylist() for column in columns), strict=True):
        known.outcomes[key] = (etag, Record(*row) if reason is None else Reject(key, reason, detail))
    return known
