"""A dataset in a folder: `bin-images/` or `bin-images.tar`, and `metadata/` or `metadata.tar.gz`."""

import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from components.core.errors import UserError
from components.core.layout import IMAGE_ID, IMAGES_PREFIX, METADATA_PREFIX, image_key, metadata_key

# Larger files are no photo or metadata of a bin; reading one would take the memory of the run.
LARGEST_FILE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Part:
    """One half of the dataset: a folder of files or one archive, and the suffix that its files have."""

    path: Path
    suffix: str

    def key(self, name: str) -> str | None:
        """The object key of a file called `name` (its path is ignored); None when it is not part of the layout."""
        stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
        if not IMAGE_ID.fullmatch(stem) or dot + suffix != self.suffix:
            return None
        return image_key(stem) if self.suffix == ".jpg" else metadata_key(stem)


@dataclass
class FolderSource:
    """The files of a dataset on disk. `skipped` fills with what was passed over while reading, and why."""

    folder: Path
    parts: tuple[Part, Part]
    skipped: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> "FolderSource":
        """Find both halves. Raises UserError when the folder or one of them is missing."""
        if not folder.is_dir():
            raise UserError(
                f"SOURCE={folder} is not a folder that exists; give 'generated', a folder, or an s3:// address."
            )
        metadata = _find(folder, METADATA_PREFIX.rstrip("/"), ["metadata.tar.gz", "metadata.tar"])
        images = _find(folder, IMAGES_PREFIX.rstrip("/"), ["bin-images.tar", "bin-images.tar.gz"])
        return cls(folder, (Part(metadata, ".json"), Part(images, ".jpg")))

    def snapshot(self) -> str:
        """A digest of names, sizes and times of change, as `make` would judge: gigabytes need not be read for it."""
        digest = hashlib.sha256()
        for part in self.parts:
            entries = _files(part.path) if part.path.is_dir() else [(part.path.name, part.path.stat())]
            for name, status in sorted(entries, key=lambda entry: entry[0]):
                digest.update(f"{part.suffix} {name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:12]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Object keys and contents, one file in memory at a time. Raises UserError for an archive that is broken.

        Only regular files with a bin's id as their name are read; the key comes from that id alone, so no path in an
        archive can lead out of the dataset.
        """
        for part in self.parts:
            yield from self._from_folder(part) if part.path.is_dir() else self._from_archive(part)

    def _from_folder(self, part: Part) -> Iterator[tuple[str, bytes]]:
        for name, status in _files(part.path):
            key = self._accepted(part, name, status.st_size)
            if key is not None:
                yield key, (part.path / name).read_bytes()

    def _from_archive(self, part: Part) -> Iterator[tuple[str, bytes]]:
        try:
            with tarfile.open(part.path, "r|*") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # tarfile would remember every member
                    if member.isdir():
                        continue
                    if not member.isreg():
                        self.skipped.append(f"{member.name}: not a regular file")
                        continue
                    key = self._accepted(part, member.name, member.size)
                    content = archive.extractfile(member) if key is not None else None
                    if key is not None and content is not None:
                        yield key, content.read()
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise UserError(f"The archive {part.path} cannot be read ({error}); fetch it again.") from error

    def _accepted(self, part: Part, name: str, size: int) -> str | None:
        key = part.key(name)
        if key is None:
            self.skipped.append(f"{name}: not named <image_id>{part.suffix}")
        elif size > LARGEST_FILE:
            self.skipped.append(f"{name}: larger than {LARGEST_FILE >> 20} MiB")
            return None
        return key


def _find(folder: Path, name: str, archives: list[str]) -> Path:
    if (folder / name).is_dir():
        return folder / name
    for archive in archives:
        if (folder / archive).is_file():
            return folder / archive
    raise UserError(f"The folder {folder} holds neither {name}/ nor {archives[0]}; a source needs one of them.")


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files directly in the folder; links are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield entry.name, entry.stat(follow_symlinks=False)
