"""What people counted: kept in the data bucket for good, and the labels that training takes from it."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import UserError
from components.core.layout import RECOUNTS_PREFIX
from components.core.patience import ObjectExists
from components.core.store import Store

_TEXTS = ("file", "bin", "site", "by", "when", "taken_at", "why", "kept_at")
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in _TEXTS]
    + [("recorded", pa.int64()), ("counted", pa.int64()), ("chance", pa.float64()), ("probability", pa.float64())]
    + [("is_label", pa.bool_())]
)


@dataclass(frozen=True)
class Recount:
    """One bin that was counted. `why`, `chance` and `probability` are those of the list that it was on.

    `is_label` says that the photo shows what was counted: nothing moved between the two.
    """

    file: str
    recorded: int
    counted: int
    why: str
    chance: float
    probability: float | None
    bin: str = ""
    site: str = ""
    by: str = ""
    when: str = ""
    taken_at: str = ""
    is_label: bool = False

    @property
    def wrong(self) -> bool:
        """Whether the record was."""
        return self.recorded != self.counted


def keep(store: Store, recounts: Sequence[Recount], now: datetime) -> str:
    """Put recounts into the bucket, under a name that says what they hold; kept once however often they are given."""
    digest = hashlib.sha256(repr(sorted(map(repr, recounts))).encode()).hexdigest()[:16]
    key = f"{RECOUNTS_PREFIX}{digest}.parquet"
    rows = [{**vars(one), "kept_at": now.astimezone(UTC).isoformat(timespec="seconds")} for one in recounts]
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), data)
    try:
        store.create(key, data.getvalue())
    except ObjectExists:
        return key
    return key


def kept(store: Store) -> Iterator[list[Recount]]:
    """All lists of recounts in the bucket, the first that came first. Raises UserError for one that is none."""
    lists = []
    for info in store.list(RECOUNTS_PREFIX):
        try:
            rows = pq.read_table(io.BytesIO(store.get(info.key)), schema=_SCHEMA).to_pylist()
        except pa.ArrowException as error:
            raise UserError(f"{info.key} in {store.location} holds no recounts that can be read; remove it.") from error
        lists.append((min((row["kept_at"] for row in rows), default=""), info.key, rows))
    for _, _, rows in sorted(lists, key=lambda one: one[:2]):
        yield [_recount(row) for row in rows]


def _recount(row: Mapping[str, Any]) -> Recount:
    """A row as it was kept; what an older list has no column for is as by default."""
    said = {name: value for name, value in row.items() if value is not None and name != "kept_at"}
    return Recount(**{"probability": None, **said})


@dataclass(frozen=True)
class Labels:
    """The counts that training takes before the records', by photo. `digest` names them, "" for none.

    A recount holds for the photo of its path, and in the dataset's layout, where a photo's name is its id, for that
    id. Two photos in different folders with one name tell no id apart, and hold for their paths only.
    """

    by_file: Mapping[str, Recount]
    by_id: Mapping[str, Recount]
    digest: str

    @classmethod
    def of(cls, lists: Iterable[Sequence[Recount]]) -> "Labels":
        """The labels among recounts; of two for one photo the one that was kept later."""
        by_file = {one.file: one for recounts in lists for one in recounts if one.is_label}
        named: dict[str, list[Recount]] = {}
        for file, one in by_file.items():
            named.setdefault(PurePosixPath(file).stem, []).append(one)
        told = "\n".join(f"{one.file} {one.recorded} {one.counted}" for _, one in sorted(by_file.items()))
        digest = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:12] if by_file else ""
        return cls(by_file, {name: found[0] for name, found in named.items() if len(found) == 1}, digest)

    def find(self, image_id: str, file: str) -> Recount | None:
        """The label of a photo: `file` is its owner's name, "" where that is the id."""
        return self.by_file.get(file) if file else self.by_id.get(image_id)

    def named(self, snapshot: str) -> str:
        """The state of a source together with the labels: what an ingest of both is cached under."""
        return f"{snapshot}+recounts-{self.digest}" if self.digest else snapshot


def read_labels(store: Store) -> Labels:
    """All labels in the data bucket."""
    return Labels.of(kept(store))
