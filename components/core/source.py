"""Where bins come from: a bucket in the dataset's layout, a table, or both together."""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from components.core.errors import UserError
from components.core.layout import IMAGES_PREFIX, METADATA_PREFIX, PUBLIC_SOURCE_BUCKET
from components.core.location import Location
from components.core.store import ObjectInfo, open_store

TABLE_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".json", ".json.gz")


@dataclass(frozen=True)
class Source:
    """`metadata` is a bucket's address or a table's path or address; `photos` is a bucket's address, or empty."""

    metadata: str
    photos: str

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Read `s3://bucket`, a table, or `s3://bucket#table`: the photos of the one, the quantities of the other."""
        photos, joined, metadata = text.partition("#")
        if joined:
            return cls(metadata, photos)
        return cls(text, "" if is_table(text) else text)

    def photo_bucket(self) -> str:
        """Address of the bucket that holds the photos. Raises UserError when there is none."""
        if not self.photos:
            raise UserError(
                f"{self.metadata} is a table and holds no photos; write SOURCE=s3://bucket#{self.metadata}."
            )
        return self.photos

    def snapshot(self) -> str:
        """A name for what the source holds now: a digest of all keys, sizes and ETags, which takes no object's content.

        The public dataset does not change, and is named after itself. Raises UserError for a source that is empty or
        cannot be reached.
        """
        public = f"s3://{PUBLIC_SOURCE_BUCKET}"
        if self.metadata == self.photos == public:
            _listed(public, METADATA_PREFIX, only_first=True)
            return public
        digest = hashlib.sha256()
        listings = [_table(self.metadata)] if is_table(self.metadata) else [_listed(self.metadata, METADATA_PREFIX)]
        if self.photos == public:
            digest.update(public.encode())
        elif self.photos:
            listings.append(_listed(self.photos, IMAGES_PREFIX))
        for listing in listings:
            for entry in listing:
                digest.update(f"{entry.key} {entry.size} {entry.etag}\n".encode())
        return f"bucket-{digest.hexdigest()[:12]}"


def _listed(uri: str, prefix: str, only_first: bool = False) -> Iterator[ObjectInfo]:
    """The objects of a bucket under `prefix`, of which there must be one."""
    store = open_store(uri)
    found = store.list(prefix)
    first = next(found, None)
    if first is None:
        raise UserError(
            f"{store.location} holds nothing under {prefix}; a source has {METADATA_PREFIX} and {IMAGES_PREFIX}."
        )
    if only_first:
        return iter(())
    return itertools.chain([first], found)


def _table(uri: str) -> Iterator[ObjectInfo]:
    """A table in a bucket as a listing of one."""
    folder, _, name = str(Location.parse(uri)).rpartition("/")
    found = [entry for entry in open_store(folder).list(name) if entry.key == name]
    if not found:
        raise UserError(f"There is no table at {uri}; check SOURCE.")
    return iter(found)


def is_table(text: str) -> bool:
    """Whether a source names a table rather than a bucket."""
    return text.lower().endswith(TABLE_SUFFIXES)
