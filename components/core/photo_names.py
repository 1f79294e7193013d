"""Photos by the names that people give them."""

from collections.abc import Iterable
from pathlib import PurePosixPath

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class PhotoNames:
    """What photos may be called in a table: by path or name, with or without the suffix, in any case of letters."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = set(files)
        self._by_name: dict[str, set[str]] = {}
        for file in sorted(self._files):
            path = PurePosixPath(file)
            for name in (file, path.name, path.with_suffix("").as_posix(), path.stem):
                self._by_name.setdefault(name.casefold(), set()).add(file)

    def find(self, written: str) -> tuple[str, str]:
        """The photo that is meant, or "" and why there is none."""
        name = written.replace("\\", "/").removeprefix("./")
        if name in self._files:
            return name, ""
        candidates = self._by_name.get(name.casefold()) or self._by_name.get(PurePosixPath(name).name.casefold(), set())
        if len(candidates) == 1:
            return next(iter(candidates)), ""
        return "", "several photos are called so" if candidates else "there is no photo of this name"
