"""Files and folders that appear whole or not at all, readable to whom the umask lets read."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to, and renames it there when the block ends well.

    The folder is made; what stood at `path` before is replaced. A block that raises leaves nothing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file whole or not at all. With `durable` it is on the disk, not in its cache, when this returns."""
    with written_whole(path) as partial, partial.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def folder_whole(folder: str | Path) -> Iterator[Path]:
    """The same for a folder: yields an empty one beside it, which takes the place of what stood there before."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(folder)
    partial.mkdir()  # not mkdtemp, whose folders are closed to everybody else
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A name of its own, so that two writers at once do not meet."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")
