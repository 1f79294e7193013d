"""Fill a cluster's source bucket from here: `python -m pipeline source SOURCE=… [--to s3://bin-source/NAME]`."""

import argparse
import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from components.core.errors import UserError
from components.core.layout import IMAGES_PREFIX, METADATA_PREFIX, SOURCE_BUCKET, image_key
from components.core.source import Source
from components.core.store import ObjectMissing, Store, open_store
from drawn.bins import DEFAULT_COUNT
from pipeline.parameters import parse_parameters
from pipeline.source.fill import CONCURRENT_PUTS, GENERATED, check_source, drawn_files, fill
from pipeline.source.folder import FolderSource

Known = dict[str, tuple[int, str]]  # size and ETag by key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m pipeline source`."""
    parser.add_argument("assignments", nargs="*", metavar="NAME=value", help="SOURCE, SEED and LIMIT as in a run")
    parser.add_argument("--to", default="", help=f"where to (default: s3://{SOURCE_BUCKET}/ and the source's name)")


def run(arguments: argparse.Namespace) -> int:
    """Copy what is not there yet, and say how to use it. Raises UserError for a source or a store that does not do."""
    given = parse_parameters(arguments.assignments)
    to = arguments.to or f"s3://{SOURCE_BUCKET}/{name_of(given.source)}"
    copied, there = copy_source(given.source, to, given.seed, given.limit)
    print(f"{to}: {copied:,} objects copied, {there:,} were there already; snapshot {Source.parse(to).snapshot()}")
    print(f"Now: make submit SOURCE={to}")
    return 0


def name_of(source: str) -> str:
    """A source's own name, as a prefix that stays the same when the source grows."""
    last = Path(source.removeprefix("s3://")).resolve().name
    return re.sub(r"[^a-z0-9.-]+", "-", last.lower()).strip("-.") or "bins"


def copy_source(source: str, to: str, seed: int = 0, limit: int = 0) -> tuple[int, int]:
    """Bring the bins of `source` (drawn ones, a folder, a bucket) to an address in the store of the AWS_* variables.

    `limit` takes so many bins of a bucket, the first by id. Returns how many objects were copied, and how many were
    there already. Nothing at the address is removed: bins that are added to a source come along the next time. Raises
    UserError for a source that is missing or empty.
    """
    check_source(source)
    target = open_store(to)
    there: Known = {}
    for prefix in (METADATA_PREFIX, IMAGES_PREFIX):
        there |= {entry.key: (entry.size, entry.etag) for entry in target.list(prefix)}
    if source.startswith("s3:"):
        files = _of_bucket(open_store(source), limit)
    else:
        files = drawn_files(DEFAULT_COUNT, seed) if source == GENERATED else FolderSource.open(Path(source)).files()
    known = 0

    def missing() -> Iterator[tuple[str, bytes]]:
        nonlocal known
        for key, content in files:
            if there.get(key) == (len(content), hashlib.md5(content, usedforsecurity=False).hexdigest()):
                known += 1
            else:
                yield key, content

    copied = fill(target, missing(), None, f"filling {to}")
    if not copied + known:
        raise UserError(f"SOURCE={source} holds no bin; a source has {METADATA_PREFIX} and {IMAGES_PREFIX}.")
    return copied, known


def _of_bucket(store: Store, limit: int) -> Iterator[tuple[str, bytes]]:
    """Metadata and photos of a bucket's bins, many requests at a time; a photo that is missing is left out."""
    listed = (entry.key for entry in islice(store.list(METADATA_PREFIX), limit or None))
    with ThreadPoolExecutor(CONCURRENT_PUTS) as pool:
        while batch := list(islice(listed, 4 * CONCURRENT_PUTS)):
            keys = [key for one in batch for key in (one, image_key(Path(one).stem))]
            found = pool.map(lambda key: _content(store, key), keys)
            yield from ((key, content) for key, content in zip(keys, found, strict=True) if content is not None)


def _content(store: Store, key: str) -> bytes | None:
    try:
        return store.get(key)
    except ObjectMissing:
        return None
