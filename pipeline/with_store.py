"""Run a command on the store of this machine: `python -m pipeline.with_store COMMAND …`.

With AWS_ENDPOINT_URL set it runs on that store instead; without, on that of a run that is going on, or else the
embedded one is started for as long as it takes.
"""

import os
import subprocess
import sys
from contextlib import ExitStack

from components.core.errors import reported
from pipeline.home import checked_home
from pipeline.local_store import HOME, store_of


def run_with_store(command: list[str]) -> int:
    """The command's exit status. Raises UserError when there is no store yet."""
    environment = dict(os.environ)
    with ExitStack() as stack:
        if not environment.get("AWS_ENDPOINT_URL"):
            environment |= stack.enter_context(store_of(checked_home(HOME) / "store")).environment()
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: python -m pipeline.with_store COMMAND …")
    with reported():
        sys.exit(run_with_store(sys.argv[1:]))
