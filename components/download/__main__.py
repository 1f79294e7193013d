"""Shell of the step: python -m components.download --help."""

import argparse
from pathlib import Path

from components.core.errors import reported
from components.core.layout import DATA_BUCKET
from components.download.download import DownloadOptions, download


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m components.download",
        description="Fetch and check the photos of a split and pack them into shards.",
    )
    parser.add_argument("--source", required=True, help="s3://bucket[/prefix] that holds the photos")
    parser.add_argument("--splits", type=Path, default=Path("splits.parquet"), help="the splits table")
    parser.add_argument("--data-uri", default=f"s3://{DATA_BUCKET}", help="our bucket, for shards and state")
    parser.add_argument("--max-reject-share", type=float, default=0.01, help="fail above this share of unusable photos")
    parser.add_argument("--index", type=Path, default=Path("shards.json"), help="where to write the shard index")
    parser.add_argument("--rejects", type=Path, default=Path("rejects.parquet"), help="where to write the rejects")
    parser.add_argument("--report", type=Path, default=Path("download.html"), help="where to write the page")
    given = parser.parse_args()
    with reported():
        options = DownloadOptions(given.source, given.data_uri, given.max_reject_share)
        download(options, given.splits, given.index, given.rejects, given.report)


if __name__ == "__main__":
    main()
