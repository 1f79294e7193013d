"""The command line: `python -m pipeline COMMAND [NAME=value …]`."""

import argparse
import importlib
import sys

from components.core.errors import reported
from pipeline.options import as_options
from pipeline.parameters import TABLE, Door, override_rows, parse_parameters

# Commands for a cluster: the module that knows the arguments and runs it, and what it does.
CLUSTER_COMMANDS = {
    "compile": ("pipeline.compile", "write the DAG for a cluster: KFP's IR, and objects for kubectl apply"),
    "manifests": ("pipeline.manifests", "write an overlay of manifests/ with the images of a registry and a tag"),
    "submit": ("pipeline.submit", "start a run on a cluster and follow it"),
    "schedule": ("pipeline.submit", "start runs on a cluster by a schedule"),
    "source": ("pipeline.source.cluster", "fill a cluster's source bucket from this machine"),
}
DOORS = {"compile": Door.COMPILE, "submit": Door.SUBMIT, "schedule": Door.SCHEDULE}


def main() -> None:
    """Parse the command and run it; a user's mistake ends with one sentence and status 1, Ctrl-C with 130."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="The bin-counter pipeline.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="run the whole DAG on this machine",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="parameters:\n" + parameters_table(Door.PIPELINE),
    )
    run.add_argument("assignments", nargs="*", metavar="NAME=value", help="a parameter of the pipeline")
    check = commands.add_parser("check", help="say what a folder of photos holds, before anything is loaded")
    check.add_argument("assignments", nargs="*", metavar="NAME=value", help="SOURCE and what divides the bins")
    commands.add_parser("runs", help="write a page with every run on this machine")
    commands.add_parser("parameters", help="print every parameter: what it takes, its default, where it may be used")
    for name, (_, summary) in CLUSTER_COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if sys.argv[1:2] == [name]:
            _cluster_command(name, command)
    with reported():
        command_name, words = sys.argv[1:2], sys.argv[2:]
        door = DOORS.get("".join(command_name))
        arguments = parser.parse_args([*command_name, *(as_options(words, door) if door else words)])
        if arguments.command in CLUSTER_COMMANDS:
            sys.exit(arguments.start(arguments))
        if arguments.command == "parameters":
            print(parameters_table())
            return
        if arguments.command == "runs":
            from pipeline.runs import show_runs

            show_runs()
            return
        parameters = parse_parameters(arguments.assignments)
        # Imported late: kfp takes seconds to import, and a mistake in the parameters should show at once.
        from pipeline.inputs import check_inputs

        if arguments.command == "check":
            from pipeline.check import check_folder

            check_folder(parameters)
            return
        check_inputs(parameters)
        from pipeline.local import run_local

        run_local(parameters)


def _cluster_command(name: str, parser: argparse.ArgumentParser) -> None:
    """Let the command's own module add its arguments; imported only now, because kfp takes a second to import."""
    module = importlib.import_module(CLUSTER_COMMANDS[name][0])
    add_arguments = module.add_schedule_arguments if name == "schedule" else module.add_arguments
    add_arguments(parser)
    parser.set_defaults(start=module.run)


def parameters_table(door: Door | None = None) -> str:
    """The parameters of one door, or of all of them with a heading each."""
    lines: list[str] = []
    doors: tuple[Door, ...] = ()
    for row in TABLE.values():
        if door is not None and door not in row.doors:
            continue
        if door is None and row.doors != doors:
            doors = row.doors
            lines.append(f"{', '.join(doors)}:")
        default = f"; default {row.default}" if row.default else ""
        lines.append(f"  {row.name:18} {row.meaning} ({row.takes}{default})")
    if door is None:
        lines.append("fields of OVERRIDES:")
        lines += [f"  {name:18} {told}" for name, told in override_rows()]
    return "\n".join(lines)
