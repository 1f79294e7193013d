"""The command line: `python -m pipeline COMMAND [NAME=value …]`."""

import argparse
import importlib
import sys

from components.core.errors import reported
from pipeline.parameters import Parameters, parse_parameters

# Commands for a cluster: the module that knows the arguments and runs it, and what it does.
CLUSTER_COMMANDS = {
    "compile": ("pipeline.compile", "write the DAG for a cluster: KFP's IR, and objects for kubectl apply"),
    "manifests": ("pipeline.manifests", "write an overlay of manifests/ with the images of a registry and a tag"),
    "submit": ("pipeline.submit", "start a run on a cluster and follow it"),
    "schedule": ("pipeline.submit", "start runs on a cluster by a schedule"),
    "source": ("pipeline.source.cluster", "fill a cluster's source bucket from this machine"),
}


def main() -> None:
    """Parse the command and run it; a user's mistake ends with one sentence and status 1, Ctrl-C with 130."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="The bin-counter pipeline.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="run the whole DAG on this machine",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_parameters_help(),
    )
    run.add_argument("assignments", nargs="*", metavar="NAME=value", help="a parameter of the pipeline")
    for name, (_, summary) in CLUSTER_COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if sys.argv[1:2] == [name]:
            _cluster_command(name, command)
    arguments = parser.parse_args()
    with reported():
        if arguments.command in CLUSTER_COMMANDS:
            sys.exit(arguments.start(arguments))
        parameters = parse_parameters(arguments.assignments)
        # Imported late: kfp takes seconds to import, and a mistake in the parameters should show at once.
        from pipeline.inputs import check_inputs

        check_inputs(parameters)
        from pipeline.local import run_local

        run_local(parameters)


def _cluster_command(name: str, parser: argparse.ArgumentParser) -> None:
    """Let the command's own module add its arguments; imported only now, because kfp takes a second to import."""
    module = importlib.import_module(CLUSTER_COMMANDS[name][0])
    add_arguments = module.add_schedule_arguments if name == "schedule" else module.add_arguments
    add_arguments(parser)
    parser.set_defaults(start=module.run)


def _parameters_help() -> str:
    lines = [
        f"  {name.upper():18} {field.description} (default: {field.default!r})"
        for name, field in Parameters.model_fields.items()
    ]
    return "parameters:\n" + "\n".join(lines)
