"""Target `local`: the real KServe model server as a process on this machine, for as long as it takes to check it."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from components.core.errors import UserError
from components.core.layout import MODEL_NAME
from components.core.ports import LOOPBACK, free_port
from components.deploy.golden import check_answers
from components.deploy.target import Candidate

SERVER = [sys.executable, "-m", "components.serve"]
START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 15.0
LOG_LINES = 5


class LocalTarget:
    """Checks a version with a server that runs for the length of the check; `make serve` runs it for users."""

    name = "local"

    @contextmanager
    def rollout(self, candidate: Candidate) -> Iterator[str]:
        """Fetch what was published, serve it, ask it the golden requests, and stop it at the end of the block."""
        with tempfile.TemporaryDirectory(prefix="bin-counter-") as folder:
            model = candidate.registry.fetch(candidate.version, Path(folder) / "model")
            with running_server(model, Path(folder) / "server.log") as url:
                check_answers(url, candidate.version, candidate.registry.info(candidate.version), candidate.golden)
                yield "checked on this machine; `make serve` starts it"


@contextmanager
def running_server(model: Path, log: Path) -> Iterator[str]:
    """The model server on a free port; yields its address. Raises UserError when it does not come up."""
    port = free_port()
    arguments = ["--model_dir", str(model), "--http_port", str(port), "--enable_grpc", "false"]
    with log.open("wb") as output:
        process = subprocess.Popen([*SERVER, *arguments], stdout=output, stderr=subprocess.STDOUT)
    try:
        url = f"http://{LOOPBACK}:{port}"
        _wait_until_ready(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(
                f"The model server ended with status {process.returncode} before it was ready ({_last_lines(log)}); "
                "nothing was put into service."
            )
        try:
            if requests.get(f"{url}/v2/models/{MODEL_NAME}/ready", timeout=2).ok:
                return
        except requests.RequestException:
            pass  # not listening yet
        time.sleep(0.1)
    raise UserError(
        f"The model server was not ready after {START_TIMEOUT_SECONDS:.0f} s ({_last_lines(log)}); "
        "nothing was put into service."
    )


def _last_lines(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-LOG_LINES:])[-600:] or "it printed nothing"
