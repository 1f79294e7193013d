"""Shards: tar files of untouched JPEGs in our bucket, named by their checksum, and the index that lists them."""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO, BinaryIO, ClassVar, cast

from pydantic import BaseModel, ConfigDict

from components.core.errors import UserError
from components.core.layout import index_key
from components.core.store import ObjectMissing, open_store
from components.core.stored import Stored


class Shard(BaseModel):
    """One tar in the data bucket: its key there, SHA-256 and size of its bytes, and how many photos it holds."""

    model_config = ConfigDict(frozen=True)

    key: str
    sha256: str
    images: int
    bytes: int


class ShardIndex(Stored):
    """All shards of a download, in order. `digest` names the whole: equal digests mean equal photos."""

    what: ClassVar[str] = "a shard index"
    remedy: ClassVar[str] = "run the download again"

    data_uri: str
    shards: tuple[Shard, ...]
    images: int
    digest: str

    @classmethod
    def of(cls, data_uri: str, shards: Iterable[Shard]) -> "ShardIndex":
        """Index of these shards, with total and digest."""
        shards = tuple(shards)
        digest = hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()
        return cls(data_uri=data_uri, shards=shards, images=sum(shard.images for shard in shards), digest=digest)

    def note_use(self) -> None:
        """Leave a copy in the data bucket, as new as this use: what names its shards and that somebody wants them."""
        open_store(self.data_uri).put(index_key(self.digest), self.text().encode())


class ShardWriter:
    """Writes photos as a tar in which nothing depends on time, user or machine: the same photos give the same bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.images = 0
        self.bytes = 0
        self._hashed = _HashingFile(file)
        self._tar = tarfile.TarFile(fileobj=cast(IO[bytes], self._hashed), mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, image_id: str, jpeg: bytes) -> None:
        """Append one photo as `<image_id>.jpg`."""
        entry = tarfile.TarInfo(f"{image_id}.jpg")
        entry.size = len(jpeg)
        self._tar.addfile(entry, io.BytesIO(jpeg))
        self.images += 1
        self.bytes += len(jpeg)

    def close(self) -> str:
        """End the tar; returns the SHA-256 of its bytes."""
        self._tar.close()
        return self._hashed.digest.hexdigest()


class _HashingFile:
    """Passes writes on and hashes them."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.size


def read_images(index: ShardIndex) -> Iterator[tuple[str, bytes]]:
    """Image id and JPEG bytes of every photo, in the index's order; memory holds one shard.

    Raises UserError when a shard is missing or its bytes are not those that were written.
    """
    store = open_store(index.data_uri)
    for shard in index.shards:
        try:
            data = store.get(shard.key)
        except ObjectMissing as error:
            raise UserError(f"The shard {index.data_uri}/{shard.key} is gone; run the download again.") from error
        if hashlib.sha256(data).hexdigest() != shard.sha256:
            raise UserError(
                f"The shard {index.data_uri}/{shard.key} does not match its checksum; delete it and download again."
            )
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for entry in tar:
                file = tar.extractfile(entry)
                assert file is not None  # we write plain files only
                yield entry.name.removesuffix(".jpg"), file.read()
