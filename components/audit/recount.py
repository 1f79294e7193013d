"""Take recounts back: python -m components.audit.recount --help."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import UserError, reported
from components.core.layout import DATA_BUCKET

if TYPE_CHECKING:
    from components.audit.moves import Moves
    from components.core.recounts import Recount


def main() -> None:
    """Parse arguments, keep the recounts, and say what all of them tell."""
    parser = argparse.ArgumentParser(prog="python -m components.audit.recount", description="Take recounts back.")
    parser.add_argument("--file", type=Path, required=True, help="a recount.csv whose column `counted` was filled in")
    parser.add_argument("--data-uri", default=f"s3://{DATA_BUCKET}", help="our bucket")
    parser.add_argument(
        "--moves", default="", help="a table of what moved between photos and counts, or none: the counts become labels"
    )
    given = parser.parse_args()
    with reported():
        from components.audit.moves import read_moves
        from components.audit.recounts import known, read_recounts
        from components.core.recounts import keep, kept
        from components.core.store import open_store

        if not given.file.is_file():
            raise UserError(f"FILE={given.file}: there is no such file; give the recount.csv of an audit.")
        moves = read_moves(given.moves) if given.moves else None
        recounts, refused = read_recounts(given.file)
        for name, problem in refused:
            print(f"not taken: {name}: {problem}")
        if moves is not None:
            recounts = [replace(one, is_label=not moves.between(one)) for one in recounts]
        store = open_store(given.data_uri)
        key = keep(store, recounts, datetime.now(UTC))
        wrong = sum(one.wrong for one in recounts)
        print(f"{len(recounts):,} recounts kept as {key}, {wrong:,} of them of wrong records.")
        print(_what_they_label(recounts, moves))
        found = known(kept(store))
        print(found or "Without recounts of bins drawn at random they say nothing of all records.")


def _what_they_label(recounts: "Sequence[Recount]", moves: "Moves | None") -> str:
    if moves is None:
        return "They only tell of errors; with MOVES=none, or a table of moves, the next training learns from them."
    labels = sum(one.is_label for one in recounts)
    changed = len(recounts) - labels
    said = f"The next training takes {labels:,} of them as labels"
    return f"{said}; {changed:,} bins may have changed since their photo." if changed else f"{said}."


if __name__ == "__main__":
    main()
