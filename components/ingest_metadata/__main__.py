"""Shell of the step: python -m components.ingest_metadata --help."""

import argparse
from pathlib import Path

from components.core import defaults
from components.core.errors import reported
from components.core.layout import DATA_BUCKET
from components.ingest_metadata.ingest import IngestOptions, ingest
from components.ingest_metadata.report import write_report


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m components.ingest_metadata",
        description="Read every bin's metadata into a records table; list what is left out; draw the exploration.",
    )
    parser.add_argument("--source", required=True, help="s3://bucket[/prefix], or a table (CSV, Parquet, JSON)")
    parser.add_argument("--snapshot", default="", help="name of the source's state; a new one reads what changed")
    parser.add_argument("--limit", type=int, default=0, help="a seeded sample of id blocks with so many bins; 0 is all")
    parser.add_argument("--max-count", type=int, default=defaults.MAX_COUNT, help="largest count that is learnt")
    parser.add_argument("--seed", type=int, default=defaults.SEED, help="seed of the sample")
    parser.add_argument("--data-uri", default=f"s3://{DATA_BUCKET}", help="our bucket, for state between attempts")
    parser.add_argument("--recounts", default="", help="s3:// bucket whose recounts are labels before the records")
    parser.add_argument("--records", type=Path, default=Path("records.parquet"), help="where to write the records")
    parser.add_argument("--rejects", type=Path, default=Path("rejects.parquet"), help="where to write the rejects")
    parser.add_argument("--report", type=Path, default=Path("ingest.html"), help="where to write the page")
    parser.add_argument("--explore", action="store_true", help="only draw the page anew from tables that are there")
    given = vars(parser.parse_args())
    paths = [given.pop(name) for name in ("records", "rejects", "report")]
    with reported():
        if given.pop("explore"):
            write_report(paths[0], paths[1], paths[2], given["max_count"], given["source"])
        else:
            ingest(IngestOptions(**given), *paths)


if __name__ == "__main__":
    main()
