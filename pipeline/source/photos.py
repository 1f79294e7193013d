"""A folder of photos under names of their own, with a table that says how many items each shows.

The rule of ids: a photo directly in the folder that is named 1 to 12 digits keeps its name. Any other gets twelve
digits: six from SHA-256 of its path without the last number in the name, and six from that number. So `IMG_0041.JPG`
and `IMG_0042.JPG` are neighbours, which the split keeps together as it does those of the dataset, an id stays the same
when photos are added, and photos of other folders or cameras lie elsewhere.
"""

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import UserError
from components.core.layout import IMAGE_ID, image_key
from components.core.photo_names import PHOTO_SUFFIXES, PhotoNames
from components.core.tables import PhotoRow, is_table_file, read_photo_table
from pipeline.source.folder import LARGEST_FILE, Skipped

TABLE_KEY = "bins.parquet"
COLUMNS = ("bin", "site", "camera", "taken_at")  # kept from the table where it has them
_DIGITS = 6
_LAST_NUMBER = re.compile(r"(.*?)([0-9]{1,6})([^0-9]*)", re.DOTALL)
_TABLE_SCHEMA = pa.schema(
    [("image_id", pa.string()), ("quantity", pa.int64()), ("group", pa.string()), ("file", pa.string())]
    + [(name, pa.string()) for name in COLUMNS]
)


@dataclass(frozen=True)
class CountedPhoto:
    """A photo that the table has a count for; `file` is its path inside the folder."""

    image_id: str
    file: str
    row: PhotoRow


@dataclass
class PhotoFolder:
    """What is in such a folder: photos with a count, and in `skipped` all that is passed over, and why."""

    folder: Path
    table: Path
    photos: list[CountedPhoto]
    skipped: Skipped = field(default_factory=Skipped)

    @classmethod
    def open(cls, folder: Path, table: Path | None = None) -> "PhotoFolder":
        """Match the photos of a folder with the rows of its table. Raises UserError when no photo has a count."""
        skipped = Skipped()
        table = table or find_table(folder)
        found = dict(_photos(folder, skipped))
        rows, told = _by_file(read_photo_table(table), found, skipped)
        photos = [CountedPhoto(id_of(file), file, row) for file, row in sorted(rows.items())]
        for file in sorted(found.keys() - rows.keys() - told):
            skipped.add(file, f"a photo that {table.name} does not name")
        if not photos:
            raise UserError(
                f"Not one of the {len(found):,} photos in {folder} has a count in {table.name}; write the photos' "
                f"names into its column for the file. {next(skipped.told(), '')}"
            )
        _refuse_equal_ids(photos)
        return cls(folder, table, photos, skipped)

    def snapshot(self) -> str:
        """A digest of names, sizes, times of change and the table, as `make` would judge."""
        digest = hashlib.sha256(self.table.read_bytes())
        for photo in self.photos:
            status = (self.folder / photo.file).stat()
            digest.update(f"{photo.image_id} {photo.file} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:12]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Object keys and contents: the photos, one in memory at a time, and the table of their counts."""
        for photo in self.photos:
            yield image_key(photo.image_id), (self.folder / photo.file).read_bytes()
        yield TABLE_KEY, self.table_of_counts()

    def table_of_counts(self) -> bytes:
        """A Parquet table with id, count, group and the file's own name, which ingest reads."""
        rows = [
            {
                "image_id": photo.image_id,
                "quantity": photo.row.count,
                "group": photo.row.bin,
                "file": photo.file,
                **{name: getattr(photo.row, name) for name in COLUMNS},
            }
            for photo in self.photos
        ]
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, _TABLE_SCHEMA), file)
        return file.getvalue()


def id_of(file: str) -> str:
    """The id of a photo by its path inside the folder, after the rule above."""
    path = PurePosixPath(file)
    if path.name == file and IMAGE_ID.fullmatch(path.stem):
        return path.stem
    match = _LAST_NUMBER.fullmatch(path.stem)
    before, number, behind = match.groups() if match else (path.stem, "", "")
    rest = f"{path.parent}/{before}#{behind}{path.suffix}"
    digest = int.from_bytes(hashlib.sha256(rest.encode("utf-8", "surrogateescape")).digest()[:8])
    if not match:
        return f"{digest % 10 ** (2 * _DIGITS):0{2 * _DIGITS}d}"
    return f"{digest % 10**_DIGITS:0{_DIGITS}d}{int(number):0{_DIGITS}d}"


def find_table(folder: Path) -> Path:
    """The one table that lies directly in the folder. Raises UserError for none and for several."""
    tables = sorted(
        path for path in folder.iterdir() if path.is_file() and is_table_file(path) and path.name[0] not in ".~"
    )
    if len(tables) == 1:
        return tables[0]
    how = "a CSV with the columns file and count"
    if not tables:
        raise UserError(
            f"The folder {folder} holds neither bin-images/ and metadata/ nor a table; put {how} beside the photos."
        )
    raise UserError(
        f"The folder {folder} holds {len(tables)} tables ({', '.join(path.name for path in tables[:4])}); "
        f"say which one has the counts: SOURCE={folder}#{tables[0].name}."
    )


def _photos(folder: Path, skipped: Skipped) -> Iterator[tuple[str, Path]]:
    """Photos below the folder by their path in it. Links are followed where they stay inside, but not to folders."""
    inside = folder.resolve()
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in list(folders):
            if (Path(where) / name).is_symlink():
                skipped.add((Path(where) / name).relative_to(folder).as_posix(), "a link to a folder")
        for name in sorted(names):
            path = Path(where) / name
            file = path.relative_to(folder).as_posix()
            if name[0] == "." or is_table_file(path):
                continue
            if path.suffix.lower() not in PHOTO_SUFFIXES:
                skipped.add(file, f"not a photo ({', '.join(PHOTO_SUFFIXES)})")
            elif not path.resolve().is_relative_to(inside):
                skipped.add(file, "a link that leads out of the folder")
            elif not path.is_file():
                skipped.add(file, "a link to nothing, or no regular file")
            elif not path.stat().st_size or path.stat().st_size > LARGEST_FILE:
                skipped.add(file, f"empty, or larger than {LARGEST_FILE >> 20} MiB")
            else:
                yield file, path


def _by_file(rows: list[PhotoRow], found: dict[str, Path], skipped: Skipped) -> tuple[dict[str, PhotoRow], set[str]]:
    """The row of each photo, and the photos whose row is of no use.

    A row names a photo by its path or its name, with or without the suffix, in any case of letters.
    """
    known = PhotoNames(found)
    matched: dict[str, PhotoRow] = {}
    told: set[str] = set()
    for row in rows:
        file, problem = known.find(row.file)
        if not problem and row.count is None:
            problem = row.problem
        elif not problem and file in matched:
            problem = f"row {matched[file].row} of the table has this photo already"
        if problem:
            skipped.add(file or row.file or f"row {row.row}", problem)
            told.add(file)
        else:
            matched[file] = row
    return matched, told


def _refuse_equal_ids(photos: list[CountedPhoto]) -> None:
    [(image_id, number)] = Counter(photo.image_id for photo in photos).most_common(1)
    if number > 1:
        alike = [photo.file for photo in photos if photo.image_id == image_id]
        raise UserError(f"The photos {' and '.join(alike[:2])} would have the same id {image_id}; rename one of them.")
