"""A running server, as users start it, on a model whose answers are known."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.small_model import write_small_bundle

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class RunningServer:
    """A server process and where it listens."""

    process: "subprocess.Popen[bytes]"
    url: str
    grpc: str
    log: Path
    model: Path

    @property
    def predict(self) -> str:
        """Address of the V1 endpoint."""
        return f"{self.url}/v1/models/bin-counter:predict"

    @property
    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def metrics(self) -> dict[str, float]:
        """The server's own figures."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(model: Path, log: Path, *flags: str) -> Iterator[RunningServer]:
    """A server on free ports, until the end of the block."""
    grpc_port = free_port()
    command = [sys.executable, "-m", "components.serve", "--model_dir", str(model), "--http_port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--grpc_port", str(grpc_port), *flags], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = _wait(process, log)
        yield RunningServer(process, url, f"127.0.0.1:{grpc_port}", log, model)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(12)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + 180  # machines that run tests may be busy
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        found = re.search(r"on (http://\S+)", log.read_text())
        if found:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{found[1]}/v2/health/ready").is_success:
                    return found[1]
        time.sleep(0.05)
    raise AssertionError(f"not ready after three minutes: {log.read_text()}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for many tests."""
    folder = tmp_path_factory.mktemp("serve")
    model = write_small_bundle(folder / "model").folder
    with running(model, folder / "log", "--max_photos", "8") as it:
        yield it
