"""Run train from a shell, as one process or as several with torchrun."""

import argparse
from pathlib import Path

from components.core.defaults import MAX_COUNT, RECIPE, SEED
from components.core.errors import reported


def main() -> None:
    """Read the arguments and run the step."""
    arguments = _parser().parse_args()
    with reported():
        from components.core.recipe import choose_recipe, read_recipe
        from components.train.job import Job, Outputs
        from components.train.loop.distributed import joined
        from components.train.train import train
        from components.train.trials import read_trials

        given = arguments
        recipe = (
            read_recipe(given.whole_recipe)
            if given.whole_recipe
            else choose_recipe(given.recipe, given.epochs, given.image_size, given.backbone, given.overrides)
        )
        job = Job(
            arguments.shard_index,
            arguments.splits,
            recipe,
            arguments.max_count,
            arguments.seed,
            arguments.weights,
            arguments.checkpoints,
            limit=arguments.limit,
            checkpoint_interval=arguments.checkpoint_interval,
            trace=arguments.trace,
            study=read_trials(arguments.study),
        )
        folder: Path = arguments.output
        outputs = Outputs(
            folder / "model", folder / "train.html", folder / "curves.png", arguments.logs, folder / "history.json"
        )
        with joined() as processes:
            train(job, outputs, processes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m components.train", description=__doc__)
    parser.add_argument("--shard-index", type=Path, required=True, help="index that download wrote")
    parser.add_argument("--splits", type=Path, required=True, help="table that split wrote")
    parser.add_argument("--recipe", default=RECIPE, help="finetune, best, frozen or original")
    parser.add_argument("--epochs", type=int, default=0, help="0: the recipe's own")
    parser.add_argument("--image-size", type=int, default=0, help="pixels; 0: the recipe's own")
    parser.add_argument("--backbone", default="", help="a torchvision ResNet or any timm model; default: the recipe's")
    parser.add_argument("--overrides", default="{}", help='JSON of recipe fields, like {"learning_rate": 0.01}')
    parser.add_argument(
        "--whole-recipe", default="", help="JSON of all fields, as choose_recipe gives it, instead of the ones above"
    )
    parser.add_argument("--weights", default="", help="file or s3:// address of the backbone's first weights; 'random'")
    parser.add_argument("--study", default="", help="JSON of the trials that chose the overrides, for the report")
    parser.add_argument("--max-count", type=int, default=MAX_COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--limit", type=int, default=0, help="train on so many bins, drawn by seed; 0: all")
    parser.add_argument("--checkpoints", default="", help="s3://bucket or a folder to keep and resume checkpoints in")
    parser.add_argument("--checkpoint-interval", type=float, default=60.0, help="seconds between two checkpoints")
    parser.add_argument("--logs", type=Path, default=None, help="folder for TensorBoard files")
    parser.add_argument("--trace", type=Path, default=None, help="file for a torch.profiler trace of a few steps")
    parser.add_argument("--output", type=Path, required=True, help="folder for model/, train.html and curves.png")
    return parser


if __name__ == "__main__":
    main()
