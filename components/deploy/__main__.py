"""Run deploy from a shell, list the versions, or put an earlier one back."""

import argparse
from pathlib import Path

from components.core.errors import reported
from components.core.layout import MODELS_BUCKET


def main() -> None:
    """Read the arguments and run the command."""
    arguments = _parser().parse_args()
    with reported():
        from components.deploy.deploy import Inputs, deploy, open_target, roll_back
        from components.deploy.export import export_version, fetch_version
        from components.deploy.models import print_models

        if arguments.command == "models":
            print_models(arguments.models_uri)
            return
        if arguments.command == "fetch":
            print(fetch_version(arguments.models_uri, arguments.version, arguments.folder))
            return
        if arguments.command == "export":
            print(export_version(arguments.models_uri, arguments.version, arguments.folder))
            return
        target = open_target(arguments.target, arguments.options)
        if arguments.command == "rollback":
            roll_back(arguments.models_uri, target, arguments.version)
            return
        inputs = Inputs(arguments.bundle, arguments.predictions, arguments.shard_index, arguments.verdict)
        record = deploy(inputs, arguments.models_uri, target)
        record.write(arguments.deployment)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m components.deploy", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    step = commands.add_parser("deploy", help="publish a model and put it into service")
    step.add_argument("--bundle", type=Path, required=True, help="folder that train wrote")
    step.add_argument("--predictions", type=Path, required=True, help="table that evaluate wrote")
    step.add_argument("--shard-index", type=Path, required=True, help="index that download wrote")
    step.add_argument("--verdict", type=Path, required=True, help="verdict that gate wrote")
    step.add_argument("--deployment", type=Path, default=Path("deployment.json"), help="where the record goes")
    back = commands.add_parser("rollback", help="put an earlier version back into service, checked like a new one")
    back.add_argument("version", help="twelve hex digits, see `models`")
    models = commands.add_parser("models", help="list the versions with their figures, and which one serves")
    fetch = commands.add_parser("fetch", help="copy a version into a folder and print where it lies")
    export = commands.add_parser("export", help="the same with a model card, to give away")
    for command, folder in ((fetch, Path("served")), (export, Path("build/models"))):
        command.add_argument(
            "version", nargs="?", default="", help="twelve hex digits; the one in service if not given"
        )
        command.add_argument("--folder", type=Path, default=folder, help="the version gets a folder of its own in it")
    for command in (step, back, models, fetch, export):
        command.add_argument("--models-uri", default=f"s3://{MODELS_BUCKET}", help="bucket of the model versions")
    for command in (step, back):
        command.add_argument("--target", default="local", help="where it is to run: local or kserve")
        command.add_argument("--options", default="{}", help="options of the target, as a JSON object")
    return parser


if __name__ == "__main__":
    main()
