"""The step: from the splits table to shards in our bucket, their index, the rejects and the report."""

import asyncio
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from components.core.concurrent import progress
from components.core.errors import UserError
from components.core.records import Reject, read_splits, write_rejects
from components.core.shards import ShardIndex
from components.core.source import Source
from components.core.store import Store, open_store
from components.download.fetch import fetch_photos
from components.download.pack import SHARD_BYTES, Packer, Piece, PieceLog
from components.download.report import write_report


@dataclass(frozen=True)
class DownloadOptions:
    """Where photos come from and go to; above `max_reject_share` of unusable ones the step fails."""

    source: str
    data_uri: str
    max_reject_share: float = 0.01
    shard_bytes: int = SHARD_BYTES


def download(
    options: DownloadOptions, splits_path: Path, index_path: Path, rejects_path: Path, report_path: Path
) -> ShardIndex:
    """Fetch the photo of every bin of the split, check it, pack it, and write index, rejects and report.

    An interrupted download goes on behind the last finished shard. Raises UserError when the store cannot be used, or
    more than the given share of the photos is unusable; the rejects table is then written all the same.
    """
    if not 0 <= options.max_reject_share <= 1:
        raise UserError(f"MAX_REJECT_SHARE={options.max_reject_share:g} is not a share; give a number from 0 to 1.")
    splits = read_splits(splits_path)
    if splits.empty:
        raise UserError(f"{splits_path} lists no bin; run the split again.")
    image_ids = sorted(splits["image_id"])
    source, store = open_store(Source.parse(options.source).photo_bucket()), open_store(options.data_uri)
    log = PieceLog(store, str(source.location), image_ids, options.shard_bytes)
    pieces = asyncio.run(fetch_and_pack(options, source, log, image_ids, rejects_path))
    rejects = [reject for piece in pieces for reject in piece.rejects]
    index = ShardIndex.of(options.data_uri, [piece.shard for piece in pieces if piece.shard is not None])
    if not index.images:
        log.forget(pieces)  # they are looked at again
        raise UserError(f"Not one of the {len(image_ids):,} photos is usable: {_by_reason(rejects)}.")
    write_rejects(rejects_path, rejects)
    sides = dict(zip(splits["image_id"], splits["block_subset"], strict=True))
    write_report(report_path, [photo for piece in pieces for photo in piece.photos], rejects, sides)
    index.write(index_path)
    index.note_use()
    log.forget(pieces)  # only now: whoever is killed before goes on from them
    print(f"photos: {index.images:,}; shards: {len(index.shards)}; rejects: {_by_reason(rejects) or 'none'}")
    return index


async def fetch_and_pack(
    options: DownloadOptions, source: Store, log: PieceLog, image_ids: list[str], rejects_path: Path
) -> list[Piece]:
    """Pieces of the whole download, in order; those of an earlier attempt are not fetched again. Raises UserError."""
    store = log.store
    pieces = await asyncio.to_thread(log.read)
    done = pieces[-1].end if pieces else 0
    if done:
        print(f"going on behind {done:,} photos of an earlier attempt")
    allowed = options.max_reject_share * len(image_ids)
    packer = Packer(store, done, options.shard_bytes)
    with progress(len(image_ids), "photos") as bar:
        bar.update(done)
        async with aclosing(packer.pack(fetch_photos(source, image_ids[done:]))) as packed:
            async for news in packed:
                if isinstance(news, Piece):
                    pieces.append(news)
                    await asyncio.to_thread(log.add, news)
                else:
                    bar.update(news)
                rejects = [reject for piece in pieces for reject in piece.rejects] + packer.open_rejects
                if len(rejects) > allowed:
                    await asyncio.to_thread(log.forget, [piece for piece in pieces if piece.rejects])
                    write_rejects(rejects_path, rejects)
                    raise UserError(_too_many(rejects, packer.end, options.max_reject_share))
    print(f"reading: {source.told_retries()}; writing: {store.told_retries()}")
    return pieces


def _too_many(rejects: list[Reject], seen: int, share: float) -> str:
    return (
        f"{len(rejects):,} of the first {seen:,} photos are unusable ({_by_reason(rejects)}), which is more than "
        f"MAX_REJECT_SHARE={share:g} of all; put the source right or allow more."
    )


def _by_reason(rejects: list[Reject]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in Counter(each.reason for each in rejects).most_common())
