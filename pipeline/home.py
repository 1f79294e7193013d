"""The folder of a local run as it is found: ours alone, and without links that would lead a write elsewhere."""

import os
from collections.abc import Iterator
from pathlib import Path

from components.core.errors import UserError

OUR_LINK = "latest"  # replaced as a link, never written through


def checked_home(home: Path) -> Path:
    """The same path. Raises UserError when the folder is another user's, no folder, or has links in it.

    Whoever may write there could else lead the store, a log or a result over any file of ours. That the folder itself
    is a link to a larger disk is its owner's choice.
    """
    if not home.exists():
        if home.is_symlink():
            raise UserError(f"{home} is a link to a folder that does not exist; make that folder, or remove the link.")
        return home
    if not home.is_dir():
        raise UserError(f"{home} is no folder; move it away, or name another in BIN_COUNTER_HOME.")
    status = home.stat()
    if status.st_uid != os.geteuid():
        raise UserError(
            f"{home} belongs to user {status.st_uid}, and this run to user {os.geteuid()}; "
            "run as its owner, or name a folder of your own in BIN_COUNTER_HOME."
        )
    for link in _links(home):
        raise UserError(f"{link} is a link, which a run does not follow; remove it and run again.")
    return home


def _links(home: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(home):  # follows none itself
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not (path.parent == home and _is_ours(name)):
                yield path


def _is_ours(name: str) -> bool:
    """`latest`, or what an interrupted run left of making it."""
    return name == OUR_LINK or (name.startswith(f"{OUR_LINK}.") and name.endswith(".new"))
