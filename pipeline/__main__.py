"""The command line: `python -m pipeline COMMAND [NAME=value …]`."""

import argparse
import sys

from components.core.errors import reported
from pipeline.parameters import Parameters, parse_parameters


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
    arguments = parser.parse_args()
    with reported():
        parameters = parse_parameters(arguments.assignments)
        # Imported late: kfp takes a second to import, and a mistake in the parameters should show at once.
        from pipeline.local import run_local

        run_local(parameters)


def _parameters_help() -> str:
    lines = [
        f"  {name.upper():18} {field.description} (default: {field.default!r})"
        for name, field in Parameters.model_fields.items()
    ]
    return "parameters:\n" + "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\ninterrupted; the next run goes on from what is whole.", file=sys.stderr)
        sys.exit(130)
