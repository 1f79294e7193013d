"""What nothing refers to any more, in our data bucket and in folders of this machine, and its removal.

A shard is referred to by a version of the registry that learned from it, and by every run of the last days: whoever
uses a shard index leaves a copy of it in the bucket. What is kept between attempts, and lists and weights that a run
was given, are referred to by their last writing. Ages are told by the store's clock, so that none of ours can make
everything old.
"""

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from components.core.errors import UserError
from components.core.layout import INDICES_PREFIX, INPUTS_PREFIX, SHARDS_PREFIX, STATE_PREFIX
from components.core.pruned import count_removal
from components.core.registry import Registry
from components.core.shards import ShardIndex
from components.core.store import ObjectInfo, Store

FEWEST_DAYS = 2  # a training on a processor alone may take this long without writing what tells so
_RUN = re.compile(r"\d{8}-\d{6}(-\d+)?")  # the name of a run's folder, a time in UTC
_DEPTHS = {STATE_PREFIX: 3, INPUTS_PREFIX: 2}  # parts of a key that name what belongs together


@dataclass
class Leftover:
    """Objects, or a folder of this machine, that belong together and can go; `used` is when they last were of use."""

    name: str
    used: datetime
    size: int = 0
    keys: list[str] = field(default_factory=list)
    folder: Path | None = None

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.name}: {self.size / 1e6:,.1f} MB, last used {self.used:%Y-%m-%d}"


def find_leftovers(store: Store, registry: Registry, days: float) -> list[Leftover]:
    """What can go from the data bucket, in the order of the keys.

    Raises UserError for fewer than FEWEST_DAYS days, and when a version or an index cannot be read.
    """
    if not days >= FEWEST_DAYS:
        raise UserError(f"DAYS={days:g} is too few, because a run may take as long; give {FEWEST_DAYS} or more.")
    before = store.now() - timedelta(days=days)
    indices = [(entry, ShardIndex.parse(store.get(entry.key), entry.key)) for entry in store.list(INDICES_PREFIX)]
    learned_from = {registry.info(version).data_fingerprint for version in registry.versions()}
    stale = [entry for entry, index in indices if _written(entry) < before and index.digest not in learned_from]
    gone = {entry.key for entry in stale}
    kept = {shard.key for entry, index in indices if entry.key not in gone for shard in index.shards}
    single = [entry for entry in store.list(SHARDS_PREFIX) if entry.key not in kept]
    groups = [Leftover(entry.key, _written(entry), entry.size, [entry.key]) for entry in [*single, *stale]]
    for prefix, depth in _DEPTHS.items():
        groups += _together(store.list(prefix), depth)
    return sorted((group for group in groups if group.used < before), key=lambda group: group.name)


def find_folders(parents: Iterable[Path], days: float) -> list[Leftover]:
    """What was not changed for so many days in folders of decoded photos, features and outputs of steps.

    The machine's clock made and reads these times; what is lost by it is made again.
    """
    before = datetime.now().astimezone() - timedelta(days=days)
    found = []
    for child in (child for parent in parents if parent.is_dir() for child in sorted(parent.iterdir())):
        used = datetime.fromtimestamp(child.lstat().st_mtime).astimezone()
        if used < before and child.name != "cache":  # of kfp.local: what it names is missing then, and is made again
            found.append(Leftover(str(child), used, _size(child), folder=child))
    return found


def find_runs(home: Path, keep: int) -> list[Leftover]:
    """All but the newest `keep` runs in `home`/runs; never what `latest` points to, nor a folder that is no run.

    A run that is named after a time to come was made while the clock was ahead, so it is older than it says and goes
    first.
    """
    now, latest, folder = time.strftime("%Y%m%d-%H%M%S", time.gmtime()), (home / "latest").resolve(), home / "runs"
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    runs = sorted(filter(_RUN.fullmatch, names), key=lambda name: (name[: len(now)] <= now, name), reverse=True)
    found = []
    for old in (folder / name for name in runs[keep:][::-1] if (folder / name).resolve() != latest):
        used = datetime.fromtimestamp(old.lstat().st_mtime).astimezone()
        found.append(Leftover(str(old), used, _size(old), folder=old))
    return found


def remove(leftovers: Iterable[Leftover], store: Store) -> None:
    """Remove them; an interrupted removal is gone on with by the next."""
    leftovers = list(leftovers)
    if any(key.startswith(SHARDS_PREFIX) for each in leftovers for key in each.keys):
        count_removal(store)
    for each in leftovers:
        for key in each.keys:
            store.delete(key)
        if each.folder is not None:
            if each.folder.is_dir() and not each.folder.is_symlink():
                shutil.rmtree(each.folder)
            else:
                each.folder.unlink()


def _together(entries: Iterable[ObjectInfo], depth: int) -> Iterator[Leftover]:
    groups: dict[str, Leftover] = {}
    for entry in entries:
        name = "/".join(entry.key.split("/")[:depth])
        group = groups.setdefault(name, Leftover(name, _written(entry)))
        group.used = max(group.used, _written(entry))
        group.size += entry.size
        group.keys.append(entry.key)
    yield from groups.values()


def _written(entry: ObjectInfo) -> datetime:
    if not entry.modified:
        raise UserError(f"The store does not say when {entry.key} was written, so nothing can be told to be old.")
    return datetime.fromisoformat(entry.modified)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())
