"""Photos into shards in our bucket, one piece of work after the other, so that an interrupted download can go on."""

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.code import code_digest
from components.core.layout import shard_key, state_prefix
from components.core.pixels import decoder_versions
from components.core.records import Reject
from components.core.shards import Shard, ShardWriter
from components.core.store import ObjectMissing, Store
from components.download.fetch import Photo, check

SHARD_BYTES = 100_000_000


class Look(BaseModel):
    """What remains of a photo once it is packed: its id, size in pixels and bytes, perceptual hash as base64."""

    model_config = ConfigDict(frozen=True)

    image_id: str
    width: int
    height: int
    bytes: int
    hash: str


class Piece(BaseModel):
    """One finished shard (none where nothing was usable) and the run of ids it covers, from `start` to before `end`."""

    model_config = ConfigDict(frozen=True)

    start: int
    end: int
    shard: Shard | None
    etag: str
    photos: tuple[Look, ...]
    rejects: tuple[Reject, ...]


class PieceLog:
    """Finished pieces of one download, kept in our bucket until it is complete."""

    def __init__(self, store: Store, source: str, image_ids: Sequence[str], shard_bytes: int) -> None:
        self.store = store
        made_by = [code_digest(check, ShardWriter, Packer), decoder_versions()]
        settings = json.dumps([source, shard_bytes, made_by, *image_ids])
        self.prefix = state_prefix("download", hashlib.sha256(settings.encode()).hexdigest()[:16])

    def read(self) -> list[Piece]:
        """The pieces from the first id on without a gap whose shards are still there."""
        pieces: list[Piece] = []
        while True:
            start = pieces[-1].end if pieces else 0
            try:
                piece = Piece.model_validate_json(self.store.get(self._key(start)))
            except (ObjectMissing, ValidationError):
                return pieces
            if piece.shard is not None and self.store.etag(piece.shard.key) != piece.etag:
                return pieces
            pieces.append(piece)

    def add(self, piece: Piece) -> None:
        """Remember a finished piece."""
        self.store.put(self._key(piece.start), piece.model_dump_json().encode())

    def forget(self, pieces: Sequence[Piece]) -> None:
        """Drop pieces: those of a complete download, or those that should be looked at again."""
        for piece in pieces:
            self.store.delete(self._key(piece.start))

    def _key(self, start: int) -> str:
        return f"{self.prefix}{start:09d}.json"


class Packer:
    """Collects photos into the current shard while the one before is stored; memory holds two shards."""

    def __init__(self, store: Store, start: int, shard_bytes: int) -> None:
        self.store = store
        self.shard_bytes = shard_bytes
        self.storing: asyncio.Task[Piece] | None = None
        self.unstored: tuple[Reject, ...] = ()  # of the shard that is being stored
        self._begin(start)

    def _begin(self, start: int) -> None:
        self.start = self.end = start
        self.photos: list[Look] = []
        self.rejects: list[Reject] = []
        self.file = io.BytesIO()
        self.writer = ShardWriter(self.file)

    @property
    def open_rejects(self) -> list[Reject]:
        """Rejects of photos that no piece which was given out covers."""
        return [*self.unstored, *self.rejects]

    async def pack(self, batches: AsyncIterator[list[Photo | Reject]]) -> AsyncGenerator[Piece | int, None]:
        """Pieces in order, as their shards are full and stored, and after each batch how many photos it had."""
        try:
            async for batch in batches:
                for outcome in batch:
                    self._take(outcome)
                    if self.writer.bytes >= self.shard_bytes:
                        if self.storing is not None:
                            yield await self._stored(self.storing)
                        self._finish()
                yield len(batch)
            if self.storing is not None:
                yield await self._stored(self.storing)
            if self.end > self.start:
                yield await self._stored(self._finish())
        finally:
            if self.storing is not None:  # a thread cannot be cancelled, so it is waited for
                await asyncio.gather(self.storing, return_exceptions=True)

    def _take(self, outcome: Photo | Reject) -> None:
        self.end += 1
        if isinstance(outcome, Reject):
            self.rejects.append(outcome)
            return
        self.writer.add(outcome.image_id, outcome.jpeg)
        encoded = base64.b64encode(outcome.hash).decode()
        self.photos.append(
            Look(
                image_id=outcome.image_id,
                width=outcome.width,
                height=outcome.height,
                bytes=len(outcome.jpeg),
                hash=encoded,
            )
        )

    def _finish(self) -> "asyncio.Task[Piece]":
        """Begin to store the current shard, and begin a new one."""
        piece = Piece(
            start=self.start,
            end=self.end,
            shard=None,
            etag="",
            photos=tuple(self.photos),
            rejects=tuple(self.rejects),
        )
        self.storing = asyncio.create_task(self._put(piece, self.file, self.writer))
        self.unstored = piece.rejects
        self._begin(self.end)
        return self.storing

    async def _put(self, piece: Piece, file: io.BytesIO, writer: ShardWriter) -> Piece:
        if not piece.photos:
            return piece
        digest = await asyncio.to_thread(writer.close)
        data = file.getbuffer()  # not a copy: a shard is large
        shard = Shard(key=shard_key(digest), sha256=digest, images=len(piece.photos), bytes=len(data))
        etag = await asyncio.to_thread(self.store.put, shard.key, data)
        return piece.model_copy(update={"shard": shard, "etag": etag})

    async def _stored(self, storing: "asyncio.Task[Piece]") -> Piece:
        piece = await storing
        self.storing, self.unstored = None, ()
        return piece
