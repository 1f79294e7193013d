"""What runs in the pods of a TrainJob: torchrun for real, with the variables that Trainer's controller sets."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.core.bundle import read_bundle
from components.train_job.exchange import Exchange
from components.train_job.worker import RESTART
from pipeline.local_store import RunningStore
from tests.train.conftest import DATA_URI, FAST, TINY, store_bins

ROOT = Path(__file__).parent.parent.parent
TRAINING = [
    f"--backbone={TINY}",
    "--weights=random",
    "--image-size=48",
    f"--overrides={FAST}",
    f"--checkpoints={DATA_URI}",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def exchange(store_environment: RunningStore, tmp_path: Path) -> Exchange:
    data = store_bins(tmp_path / "data", [1 + place % 5 for place in range(40)])
    given = Exchange(DATA_URI, f"test{abs(hash(str(tmp_path)))}")
    given.put_inputs({"shard_index": data.index, "splits": data.splits})
    return given


@pytest.fixture
def start(exchange: Exchange, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker; at the end of the test nothing of it is left, however the test ended."""
    started = []

    def begin(*arguments: Any, processes: int = 1) -> subprocess.Popen[str]:
        started.append(run_worker(exchange, tmp_path, arguments, processes))
        return started[-1]

    yield begin
    for process in started:
        # Not killed at once: torchrun's processes have sessions of their own, and only torchrun takes them along.
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


def run_worker(exchange: Exchange, tmp_path: Path, arguments: tuple[str, ...], processes: int) -> subprocess.Popen[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    trainer = {
        "PET_NNODES": "1",
        "PET_NPROC_PER_NODE": str(processes),
        "PET_NODE_RANK": "0",
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
    }
    ours = {"BIN_COUNTER_CACHE": str(tmp_path / "cache"), "TERMINATION_LOG": str(tmp_path / "sentence")}
    command = [
        sys.executable,
        "-m",
        "components.train_job.worker",
        "--data-uri",
        DATA_URI,
        "--job",
        exchange.fingerprint,
    ]
    return subprocess.Popen(
        [*command, "--", *TRAINING, *arguments],
        cwd=ROOT,
        env={**os.environ, **trainer, **ours, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_train_and_the_first_node_hands_the_model_over(
    start: Start, exchange: Exchange, tmp_path: Path
) -> None:
    process = start("--epochs=1", processes=2)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    outputs = {name: tmp_path / "out" / name for name in ("bundle", "report", "curves")}
    exchange.get_outputs(outputs)
    assert read_bundle(outputs["bundle"]).info.backbone == TINY
    assert outputs["curves"].read_bytes().startswith(b"\x89PNG")
    assert "<html" in outputs["report"].read_text()


def test_a_mistake_ends_with_the_sentence_and_status_1_so_that_nothing_restarts_it(
    start: Start, exchange: Exchange, tmp_path: Path
) -> None:
    process = start("--recipe=nonsense")
    said, _ = process.communicate()
    assert process.returncode == 1, said
    assert "nonsense" in (tmp_path / "sentence").read_text()
    assert not exchange.done()


def test_a_node_that_is_taken_away_ends_with_a_status_that_restarts_it(start: Start, exchange: Exchange) -> None:
    process = start("--epochs=500")
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if "epoch" in line.lower():
            break
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == RESTART, said + rest
    assert time.monotonic() - begun < 60
    assert not exchange.done()
