"""Shell of the step: python -m components.split --help."""

import argparse
from pathlib import Path

from components.core import defaults
from components.core.errors import reported
from components.split.divide import SplitOptions
from components.split.split import split


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m components.split",
        description="Divide the bins into train, validation, test and extra so that nothing leaks.",
    )
    parser.add_argument("--records", type=Path, default=Path("records.parquet"), help="the records table")
    parser.add_argument("--max-count", type=int, default=defaults.MAX_COUNT, help="bins with more items are extra")
    parser.add_argument("--seed", type=int, default=defaults.SEED, help="seed of the draw")
    parser.add_argument(
        "--validation-share",
        type=float,
        default=defaults.VALIDATION_SHARE,
        help="a share, or from 1 on a number of bins",
    )
    parser.add_argument("--test-share", type=float, default=defaults.TEST_SHARE, help="likewise")
    parser.add_argument("--file-lists", default="", help="a training list, or a folder with train.json and the like")
    parser.add_argument("--splits", type=Path, default=Path("splits.parquet"), help="where to write the split")
    parser.add_argument("--lists", type=Path, default=Path("lists"), help="folder to write the file lists to")
    parser.add_argument("--report", type=Path, default=Path("split.html"), help="where to write the page")
    given = parser.parse_args()
    with reported():
        options = SplitOptions(given.max_count, given.seed, given.validation_share, given.test_share)
        split(given.records, options, given.file_lists, given.splits, given.lists, given.report)


if __name__ == "__main__":
    main()
