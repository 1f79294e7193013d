"""Run evaluate from a shell."""

import argparse
from pathlib import Path

from components.core.defaults import SEED
from components.core.errors import reported


def main() -> None:
    """Read the arguments and run the step."""
    parser = argparse.ArgumentParser(prog="python -m components.evaluate", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder that train wrote")
    parser.add_argument("--shard-index", type=Path, required=True, help="index that download wrote")
    parser.add_argument("--splits", type=Path, required=True, help="table that split wrote")
    parser.add_argument("--seed", type=int, default=SEED, help="of the resampling behind ece_if_calibrated")
    parser.add_argument("--metrics", type=Path, default=Path("metrics.json"), help="where the figures go")
    parser.add_argument("--predictions", type=Path, default=Path("predictions.parquet"), help="where the answers go")
    parser.add_argument("--report", type=Path, default=Path("report.html"), help="where the report goes")
    arguments = parser.parse_args()
    with reported():
        from components.evaluate.evaluate import Outputs, evaluate

        outputs = Outputs(arguments.metrics, arguments.predictions, arguments.report)
        evaluate(arguments.bundle, arguments.shard_index, arguments.splits, arguments.seed, outputs)


if __name__ == "__main__":
    main()
