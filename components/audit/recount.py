"""Take recounts back: python -m components.audit.recount --help."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from components.core.errors import UserError, reported
from components.core.layout import DATA_BUCKET


def main() -> None:
    """Parse arguments, keep the recounts, and say what all of them tell."""
    parser = argparse.ArgumentParser(prog="python -m components.audit.recount", description="Take recounts back.")
    parser.add_argument("--file", type=Path, required=True, help="a recount.csv whose column `counted` was filled in")
    parser.add_argument("--data-uri", default=f"s3://{DATA_BUCKET}", help="our bucket")
    given = parser.parse_args()
    with reported():
        from components.audit.recounts import estimate, keep, kept, read_recounts
        from components.core.store import open_store

        if not given.file.is_file():
            raise UserError(f"FILE={given.file}: there is no such file; give the recount.csv of an audit.")
        recounts, refused = read_recounts(given.file)
        for name, problem in refused:
            print(f"not taken: {name}: {problem}")
        store = open_store(given.data_uri)
        key = keep(store, recounts, datetime.now(UTC))
        wrong = sum(one.wrong for one in recounts)
        print(f"{len(recounts):,} recounts kept as {key}, {wrong:,} of them of wrong records.")
        found = estimate(kept(store))
        print(found or "Without recounts of bins drawn at random they say nothing of all records.")


if __name__ == "__main__":
    main()
