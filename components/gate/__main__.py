"""Run gate from a shell; prints "deploy" or "keep" last."""

import argparse
from pathlib import Path

from components.core.errors import reported
from components.core.layout import MODELS_BUCKET


def main() -> None:
    """Read the arguments and run the step."""
    parser = argparse.ArgumentParser(prog="python -m components.gate", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder that train wrote")
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.json that evaluate wrote")
    parser.add_argument("--predictions", type=Path, required=True, help="table that evaluate wrote")
    parser.add_argument("--shard-index", type=Path, required=True, help="index that download wrote")
    parser.add_argument("--champion", default="", help="version to compare with; none if left out")
    parser.add_argument("--models-uri", default=f"s3://{MODELS_BUCKET}", help="bucket of the model versions")
    parser.add_argument("--margin", type=float, default=0.0, help="accuracy asked for above the baseline's interval")
    parser.add_argument("--force", action="store_true", help="let the model pass whatever the rules say")
    parser.add_argument("--verdict", type=Path, default=Path("verdict.json"), help="where the verdict goes")
    arguments = parser.parse_args()
    with reported():
        from components.gate.gate import Inputs, gate

        inputs = Inputs(arguments.bundle, arguments.metrics, arguments.predictions, arguments.shard_index)
        judged = gate(inputs, arguments.champion, arguments.models_uri, arguments.margin, arguments.force)
        judged.write(arguments.verdict)
        print(judged.decision)


if __name__ == "__main__":
    main()
