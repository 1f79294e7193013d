"""A dataset in a folder: `bin-images/` and `metadata/`, or an archive of either (`.tar`, `.tar.gz`, `.zip`)."""

import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from components.core.errors import UserError
from components.core.layout import IMAGE_ID, IMAGES_PREFIX, METADATA_PREFIX, image_key, metadata_key

# Larger files are no photo or metadata of a bin; reading one would take the memory of the run.
LARGEST_FILE = 64 * 1024 * 1024
# tarfile reads a member's extended header whole and in several copies; names and times take hundreds of bytes.
LARGEST_HEADER = 1024 * 1024
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".zip")
SHOWN_OF_A_KIND = 3


@dataclass(frozen=True)
class Part:
    """One half of the dataset: a folder of files or one archive, and the suffixes that its files have."""

    path: Path
    suffixes: tuple[str, ...]

    def key(self, name: str) -> str | None:
        """The object key of a file called `name` (its path is ignored); None when it is not part of the layout."""
        stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
        if not IMAGE_ID.fullmatch(stem) or (dot + suffix).lower() not in self.suffixes:
            return None
        return metadata_key(stem) if self.suffixes == METADATA_SUFFIXES else image_key(stem)


METADATA_SUFFIXES = (".json",)
PHOTO_SUFFIXES = (".jpg", ".jpeg")


@dataclass
class Skipped:
    """What was passed over, by why; names come from files of others, so what is no printable character is escaped."""

    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, why: str) -> None:
        """Remember an entry."""
        self.names[why].append(repr(name)[1:-1])

    def __len__(self) -> int:
        return sum(map(len, self.names.values()))

    def rows(self) -> Iterator[tuple[str, str]]:
        """Every name with its reason."""
        return ((name, why) for why, names in self.names.items() for name in names)

    def told(self) -> Iterator[str]:
        """A line for each reason, with the first names."""
        for why, names in self.names.items():
            more = f" and {len(names) - SHOWN_OF_A_KIND:,} more" if len(names) > SHOWN_OF_A_KIND else ""
            yield f"{', '.join(names[:SHOWN_OF_A_KIND])}{more}: {why}"


@dataclass
class FolderSource:
    """The files of a dataset on disk. `skipped` fills with what was passed over while reading, and why."""

    folder: Path
    parts: tuple[Part, Part]
    skipped: Skipped = field(default_factory=Skipped)

    @classmethod
    def open(cls, folder: Path) -> "FolderSource":
        """Find both halves. Raises UserError when the folder or one of them is missing."""
        if not folder.is_dir():
            raise UserError(
                f"SOURCE={folder} is not a folder that exists; give 'generated', a folder, or an s3:// address."
            )
        metadata, images = (_find(folder, prefix.rstrip("/")) for prefix in (METADATA_PREFIX, IMAGES_PREFIX))
        return cls(folder, (Part(metadata, METADATA_SUFFIXES), Part(images, PHOTO_SUFFIXES)))

    def snapshot(self) -> str:
        """A digest of names, sizes and times of change, as `make` would judge: gigabytes need not be read for it."""
        digest = hashlib.sha256()
        for part in self.parts:
            entries = _files(part.path) if part.path.is_dir() else [(part.path.name, part.path.stat())]
            for name, status in sorted(entries, key=lambda entry: entry[0]):
                digest.update(f"{part.suffixes[0]} {name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:12]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Object keys and contents, one file in memory at a time. Raises UserError for an archive that is broken.

        Only regular files with a bin's id as their name are read; the key comes from that id alone, so no path in an
        archive can lead out of the dataset. A key may come twice: the last one counts, as for tar itself.
        """
        for part in self.parts:
            if part.path.is_dir():
                yield from self._from_folder(part)
                continue
            try:
                yield from self._from_zip(part) if part.path.suffix == ".zip" else self._from_tar(part)
            except _BROKEN as error:
                raise UserError(f"The archive {part.path} cannot be read ({error}); fetch it again.") from error

    def _from_folder(self, part: Part) -> Iterator[tuple[str, bytes]]:
        for name, status in sorted(_files(part.path), key=lambda entry: entry[0]):
            key = self._accepted(part, name, status.st_size)
            if key is not None:
                yield key, (part.path / name).read_bytes()

    def _from_tar(self, part: Part) -> Iterator[tuple[str, bytes]]:
        with tarfile.open(part.path, "r|*", tarinfo=_Member) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would remember every member
                if member.isdir():
                    continue
                if not member.isreg():
                    self.skipped.add(member.name, "not a regular file")
                    continue
                key = self._accepted(part, member.name, member.size)
                content = archive.extractfile(member) if key is not None else None
                if key is not None and content is not None:
                    yield key, content.read()

    def _from_zip(self, part: Part) -> Iterator[tuple[str, bytes]]:
        with zipfile.ZipFile(part.path) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                key = self._accepted(part, member.filename, member.file_size)
                if key is not None:
                    with archive.open(member) as file:  # reads no more than the size that it was accepted with
                        yield key, file.read(member.file_size)

    def _accepted(self, part: Part, name: str, size: int) -> str | None:
        key = part.key(name)
        if key is None and name.rpartition("/")[2].startswith("._"):
            self.skipped.add(name, "what macOS keeps beside a file")
        elif key is None:
            self.skipped.add(name, f"not named <image_id>{part.suffixes[0]}")
        elif size > LARGEST_FILE:
            self.skipped.add(name, f"larger than {LARGEST_FILE >> 20} MiB")
            return None
        return key


class _Member(tarfile.TarInfo):
    """A member of an archive whose extended headers are looked at before they are read into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED_HEADERS and self.size > LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]  # not among the stubs


_EXTENDED_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
# NotImplementedError: a way of compression that Python lacks; RuntimeError: a member that wants a password.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    OSError,
    NotImplementedError,
    RuntimeError,
)


def has_layout(folder: Path) -> bool:
    """Whether a folder holds one half of the dataset's layout at least."""
    names = (prefix.rstrip("/") for prefix in (METADATA_PREFIX, IMAGES_PREFIX))
    return any((folder / f"{name}{suffix}").exists() for name in names for suffix in ("", *ARCHIVE_SUFFIXES))


def _find(folder: Path, name: str) -> Path:
    if (folder / name).is_dir():
        return folder / name
    for suffix in ARCHIVE_SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise UserError(
        f"The folder {folder} holds neither {name}/ nor {name}{ARCHIVE_SUFFIXES[0]}; a source needs one of them."
    )


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files directly in the folder; links are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield entry.name, entry.stat(follow_symlinks=False)
