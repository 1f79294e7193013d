"""Starting, watching and stopping the servers that are compared."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from components.core.ports import free_ports

ROOT = Path(__file__).parent.parent.parent
BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"


@dataclass(frozen=True)
class Launch:
    """How a server is started, and how it is asked."""

    name: str
    command: tuple[str, ...]
    ready_path: str
    predict_path: str
    body: str  # raw, instances, image, or b64
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Started:
    """A server that runs."""

    launch: Launch
    port: int
    process: psutil.Process
    seconds_to_ready: float

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the server and its children so far."""
        total = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    @property
    def memory(self) -> int:
        """Resident bytes of the server and its children."""
        total = 0
        for process in (self.process, *self.process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total


def ours(name: str, bundle: Path) -> Launch:
    """This project's server."""
    command = (sys.executable, "-m", "components.serve", "--model_dir", str(bundle), "--http_port", "{port}",
               "--grpc_port", "{other}")  # fmt: skip
    return Launch(name, command, "/v2/health/ready", "/v1/models/bin-counter:predict", "raw")


def stock(name: str, backbone: str) -> Launch:
    """KServe's custom model as documented."""
    command = (sys.executable, "-m", "benchmarks.serving.stock_kserve", "--backbone", backbone, "--http_port", "{port}",
               "--grpc_port", "{other}")  # fmt: skip
    return Launch(name, command, "/v2/health/ready", "/v1/models/bin-counter:predict", "image")


def litserve(name: str, bundle: Path) -> Launch:
    """LitServe on the same graph."""
    command = (str(BENCH_PYTHON), "-m", "benchmarks.serving.litserve_app", str(bundle), "{port}")
    return Launch(name, command, "/health", "/predict", "b64")


def bentoml(name: str, bundle: Path) -> Launch:
    """BentoML on the same graph."""
    command = (str(BENCH_PYTHON), "-m", "bentoml", "serve", "benchmarks.serving.bentoml_app:Counter", "--host",
               "127.0.0.1", "--port", "{port}")  # fmt: skip
    quiet = (("BENTOML_DO_NOT_TRACK", "True"), ("BUNDLE", str(bundle)))
    return Launch(name, command, "/readyz", "/predict", "raw", quiet)


@contextlib.contextmanager
def running(launch: Launch, log: Path) -> Iterator[Started]:
    """Start a server on free ports, wait until it is ready, and stop it and its children at the end."""
    port, other = free_ports(2)
    command = [part.format(port=port, other=other) for part in launch.command]
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **dict(launch.environment)}, stdout=output, stderr=subprocess.STDOUT
        )
    watched = psutil.Process(process.pid)
    try:
        while not _is_ready(port, launch.ready_path):
            if process.poll() is not None or time.perf_counter() - started > 600:
                raise SystemExit(f"error: {launch.name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)
        yield Started(launch, port, watched, time.perf_counter() - started)
    finally:
        family = [watched, *watched.children(recursive=True)] if watched.is_running() else []
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for member in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()


def _is_ready(port: int, path: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).is_success
    except httpx.TransportError:
        return False
