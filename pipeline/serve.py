"""`make serve`: the endpoint on the version in service, on another one, or on a folder."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from components.core.errors import UserError, reported
from pipeline.local_store import HOME

_PORT = re.compile(r"[0-9]{1,5}")


def main() -> None:
    """Find the model, say which it is, and become the server."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.serve", description=__doc__)
    parser.add_argument("--version", default="", help="a version of the registry; the one in service if not given")
    parser.add_argument("--model", default="", help="a folder instead, such as .local/latest/model")
    parser.add_argument("--port", default="8080", help="HTTP port")
    parser.add_argument("--port-grpc", default="8081", help="gRPC port")
    given = parser.parse_args()
    with reported():
        for name, port in (("PORT", given.port), ("PORT_GRPC", given.port_grpc)):
            check_port(name, port)
        model = folder_of(given.version, given.model)
        ports = ["--http_port", given.port, "--grpc_port", given.port_grpc]
        # In place of this process, so that Ctrl-C and signals are the server's.
        os.execv(sys.executable, [sys.executable, "-m", "components.serve", "--model_dir", str(model), *ports])  # noqa: S606


def check_port(name: str, port: str) -> None:
    """Refuse what is no port. Raises UserError."""
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise UserError(f"{name}={port} cannot be used: it should be a number from 0 to 65535.")


def folder_of(version: str, model: str, use: str = "Serving") -> Path:
    """The folder of a model, after a line that says what it is and its `use`. Raises UserError when there is none."""
    if version and model:
        raise UserError("VERSION and MODEL name two models; give one of them.")
    if model:
        print(f"{use} the folder {model}, whatever is in service.", flush=True)
        return Path(model)
    with_store = [sys.executable, "-m", "pipeline.with_store", sys.executable, "-m", "components.deploy"]
    fetched = subprocess.run(
        [*with_store, "fetch", "--folder", str(HOME / "served"), *([version] if version else [])],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if fetched.returncode:
        sys.exit(fetched.returncode)  # it has said why
    folder = Path(fetched.stdout.strip().splitlines()[-1])
    print(f"Version {folder.name} {'as asked for' if version else 'is in service'}.", flush=True)
    return folder


if __name__ == "__main__":
    main()
