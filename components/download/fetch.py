"""Photos from the source, many at once: fetched, checked and decoded, in the order they were asked for."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from components.core.concurrent import REQUESTS, Threads, in_order
from components.core.layout import image_key
from components.core.pixels import ImageRejected, read_image_file, squash
from components.core.reasons import Reason
from components.core.records import Reject
from components.core.store import ObjectCorrupt, ObjectMissing, Store
from components.download.near import HASH_SIDE, perceptual_hash

BATCH = 32
BATCHES_UNDER_WAY = 2 * REQUESTS // BATCH
PORTION = 4  # photos that one thread fetches one after the other: 64 threads are busy


@dataclass(frozen=True)
class Photo:
    """A photo that decodes: its bytes as they came, its size in pixels, and its perceptual hash."""

    image_id: str
    jpeg: bytes
    width: int
    height: int
    hash: bytes


async def fetch_photos(source: Store, image_ids: Sequence[str]) -> AsyncIterator[list[Photo | Reject]]:
    """Photos, or what is wrong with them, in batches in the order of the ids.

    Decoding runs on all cores beside the fetching; memory holds BATCHES_UNDER_WAY batches.
    """
    with ThreadPoolExecutor(os.cpu_count()) as cores, Threads() as threads:

        async def work(batch: Sequence[str]) -> list[Photo | Reject]:
            fetched = await threads.each(partial(_fetch, source), batch, PORTION)
            return await asyncio.get_running_loop().run_in_executor(cores, _check_all, batch, fetched)

        batches = (image_ids[start : start + BATCH] for start in range(0, len(image_ids), BATCH))
        try:
            async for checked in in_order(batches, work, BATCHES_UNDER_WAY):
                yield checked
        except BaseException:
            source.abandon()
            raise


def _fetch(source: Store, image_id: str) -> bytes | Reject:
    key = image_key(image_id)
    try:
        return source.fetch(key)
    except ObjectMissing:
        return Reject(key, Reason.MISSING, "there is no photo of this bin")
    except ObjectCorrupt as error:
        return Reject(key, Reason.DAMAGED, str(error))


def _check_all(image_ids: Sequence[str], fetched: Sequence[bytes | Reject]) -> list[Photo | Reject]:
    return [
        data if isinstance(data, Reject) else check(image_id, data)
        for image_id, data in zip(image_ids, fetched, strict=True)
    ]


def check(image_id: str, data: bytes) -> Photo | Reject:
    """Whether a photo's bytes decode and have a sensible size."""
    try:
        file = read_image_file(data)
        pixels = squash(file, HASH_SIDE)
    except ImageRejected as error:
        return Reject(image_key(image_id), error.reason, error.message)
    return Photo(image_id, data, file.width, file.height, perceptual_hash(pixels))
