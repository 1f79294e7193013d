"""Files that a user names by a path or by an s3:// address."""

from pathlib import Path

from components.core.location import Location
from components.core.store import ObjectMissing, open_store


def is_address(place: str) -> bool:
    """Whether a place is an address in a store; anything else is a path."""
    return place.startswith("s3:")


def read_place(place: str) -> bytes | None:
    """The bytes of a file, None where there is none. Raises UserError when the store cannot be asked."""
    if not is_address(place):
        path = Path(place)
        return path.read_bytes() if path.is_file() else None
    location = Location.parse(place)
    try:
        return open_store(f"s3://{location.bucket}").get(location.prefix)
    except ObjectMissing:
        return None


def local_file(place: str, folder: Path) -> Path | None:
    """A path that holds the file: its own, or a copy in `folder` under the same name. None where there is none."""
    if not is_address(place):
        return Path(place) if Path(place).is_file() else None
    data = read_place(place)
    if data is None:
        return None
    path = folder / Path(place).name
    path.write_bytes(data)
    return path
