"""Where the photos of an audit are: a folder, or a prefix of a bucket."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from components.core.errors import UserError
from components.core.photo_names import PHOTO_SUFFIXES
from components.core.place import is_address
from components.core.store import ObjectCorrupt, ObjectMissing, Store, open_store


@dataclass(frozen=True)
class PhotoFile:
    """A photo: its path below the place, and what changes when it does."""

    name: str
    version: str


class Photos(Protocol):
    """A place with photos. `read` raises OSError or the store's errors for one that is not there any more."""

    def listed(self) -> list[PhotoFile]:
        """All photos, by name."""

    def read(self, name: str) -> bytes:
        """The bytes of one."""


def photos_at(place: str) -> Photos:
    """The photos at a path or an address. Raises UserError when there is no such place."""
    if is_address(place):
        return _Bucket(open_store(place))
    folder = Path(place)
    if not folder.is_dir():
        raise UserError(f"There is no folder {place}; give a folder with photos, or an s3:// address.")
    return _Folder(folder)


def is_photo(name: str) -> bool:
    """Whether a file is a photo by its name; what begins with a dot is nobody's photo."""
    return name.lower().endswith(PHOTO_SUFFIXES) and not name.rpartition("/")[2].startswith(".")


@dataclass(frozen=True)
class _Folder:
    folder: Path

    def listed(self) -> list[PhotoFile]:
        return sorted(self._walk(), key=lambda photo: photo.name)

    def _walk(self) -> Iterator[PhotoFile]:
        for where, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if name[0] != "."]
            for name in names:
                path = Path(where) / name
                if is_photo(name) and path.is_file():
                    status = path.stat()
                    version = f"{status.st_size} {status.st_mtime_ns}"
                    yield PhotoFile(path.relative_to(self.folder).as_posix(), version)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@dataclass(frozen=True)
class _Bucket:
    store: Store

    def listed(self) -> list[PhotoFile]:
        found = (PhotoFile(info.key, f"{info.size} {info.version}") for info in self.store.list() if is_photo(info.key))
        return sorted(found, key=lambda photo: photo.name)

    def read(self, name: str) -> bytes:
        try:
            return self.store.get(name)
        except (ObjectMissing, ObjectCorrupt) as error:
            raise OSError(str(error)) from error
