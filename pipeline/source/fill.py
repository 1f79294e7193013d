"""Brings a source into the local store, once, under a prefix that names its content."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from components.core.errors import UserError
from components.core.layout import SOURCE_BUCKET, image_key, metadata_key
from components.core.location import Location
from components.core.place import is_address
from components.core.source import Source
from components.core.store import Store, open_store
from drawn.bins import DEFAULT_COUNT, draw_bins, generator_digest
from pipeline.source.folder import FolderSource, Skipped, has_layout
from pipeline.source.photos import TABLE_KEY, CountedPhoto, PhotoFolder

GENERATED = "generated"
# Written last: a prefix without it is a fill that was interrupted.
COMPLETE_MARKER = "complete"
CONCURRENT_PUTS = 24


@dataclass(frozen=True)
class PreparedSource:
    """Where the pipeline reads from, and what names the content that it finds there."""

    uri: str
    snapshot: str
    skipped: Skipped = field(default_factory=Skipped)
    photos: tuple[CountedPhoto, ...] = ()  # of a folder whose photos have names of their own


def check_source(source: str) -> None:
    """Refuse a SOURCE that cannot be meant, before anything starts. Raises UserError."""
    if is_address(source):
        Location.parse(source)
    elif source != GENERATED:
        open_folder(source)


def prepare_source(source: str, seed: int = 0, count: int = DEFAULT_COUNT) -> PreparedSource:
    """Make SOURCE readable through the store that the AWS_* variables name.

    `generated` and folders are loaded into the store unless it holds them already; an s3:// address stays as it is.
    Raises UserError for a source that is missing, empty or unreachable.
    """
    check_source(source)
    if is_address(source):
        return PreparedSource(source, Source.parse(source).snapshot())
    if source == GENERATED:
        snapshot = _digest(GENERATED, generator_digest(), str(seed), str(count))
        return _filled(f"{GENERATED}-{snapshot}", drawn_files(count, seed), 2 * count, "drawing bins")
    folder = open_folder(source)
    prepared = _filled(f"folder-{folder.snapshot()}", folder.files(), None, f"loading {source}")
    for line in folder.skipped.told():
        print(f"skipped {line}")
    if isinstance(folder, PhotoFolder):
        with_table = f"{prepared.uri}#{prepared.uri}/{TABLE_KEY}"
        return PreparedSource(with_table, prepared.snapshot, folder.skipped, tuple(folder.photos))
    return replace(prepared, skipped=folder.skipped)


def open_folder(source: str) -> FolderSource | PhotoFolder:
    """A folder in the dataset's layout, or one of photos with a table, which `folder#table` names where there are more.

    Raises UserError when it is missing or neither.
    """
    name, _, table = source.partition("#")
    folder = Path(source if Path(source).is_dir() else name)
    if not folder.is_dir() or has_layout(folder):
        return FolderSource.open(folder)
    if not table or folder == Path(source):
        return PhotoFolder.open(folder)
    if not (folder / table).is_file():
        raise UserError(f"SOURCE={source}: there is no table {folder / table}; check its name.")
    return PhotoFolder.open(folder, folder / table)


def fill(store: Store, files: Iterable[tuple[str, bytes]], total: int | None = None, title: str = "filling") -> int:
    """Put (key, content) pairs with many requests in flight and bounded memory; returns how many there were.

    Of a key that comes twice the last content stays. Whatever is raised meanwhile, Ctrl-C included, ends the fill with
    no request left running.
    """
    done = 0
    pending: dict[Future[str], str] = {}
    # In a log, where every refresh becomes a line of its own, refresh seldom.
    interval = 0.1 if sys.stderr.isatty() else 5.0
    with (
        tqdm(total=total, desc=title, unit=" files", mininterval=interval) as progress,
        ThreadPoolExecutor(CONCURRENT_PUTS) as pool,
    ):
        try:
            for key, content in files:
                if key in pending.values():
                    pending = _collect(pending)  # two writers of one key have no order
                elif len(pending) >= 2 * CONCURRENT_PUTS:
                    pending = _collect(pending, FIRST_COMPLETED)
                pending[pool.submit(store.put, key, content)] = key
                done += 1
                progress.update()
            _collect(pending)
        finally:
            pool.shutdown(cancel_futures=True)
    return done


def _collect(pending: dict[Future[str], str], until: str = "ALL_COMPLETED") -> dict[Future[str], str]:
    """Wait for puts, raise what they raised, and return those still in flight."""
    finished, unfinished = wait(pending, return_when=until)
    for future in finished:
        future.result()
    return {future: pending[future] for future in unfinished}


def _filled(snapshot: str, files: Iterator[tuple[str, bytes]], total: int | None, title: str) -> PreparedSource:
    uri = f"s3://{SOURCE_BUCKET}/{snapshot}"
    store = open_store(uri)
    if not store.exists(COMPLETE_MARKER):
        stored = fill(store, files, total, title)
        if stored == 0:
            raise UserError("The source is empty: it holds no file that is named after a bin's id.")
        store.put(COMPLETE_MARKER, b"")
    return PreparedSource(uri, snapshot)


def drawn_files(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Object keys and contents of `count` drawn bins."""
    for drawn in draw_bins(count, seed):
        yield metadata_key(drawn.image_id), drawn.metadata
        if drawn.jpeg is not None:
            yield image_key(drawn.image_id), drawn.jpeg


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
