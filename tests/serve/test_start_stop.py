"""Starting: one sentence when it cannot. Stopping: nothing that was accepted is lost. In between: load."""

import concurrent.futures
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from components.core.bundle import read_bundle
from components.core.pixels import decode_squashed
from components.core.runtime import open_runtime
from tests.serve.conftest import ROOT, RunningServer, free_port, running
from tests.small_model import photo, write_small_bundle


def started(*flags: str) -> "subprocess.CompletedProcess[str]":
    """A server that is expected to end at once."""
    command = [sys.executable, "-m", "components.serve", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def assert_one_sentence(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("start") / "model").folder


def test_a_missing_model_is_said_in_a_sentence(tmp_path: Path) -> None:
    assert_one_sentence(started("--model_dir", str(tmp_path)), "There is no model", str(tmp_path))


def test_a_damaged_model_is_said_in_a_sentence(model: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "model"
    shutil.copytree(model, damaged)
    with (damaged / "model.onnx").open("ab") as file:
        file.write(b"x")
    assert_one_sentence(started("--model_dir", str(damaged)), "model.onnx", "damaged")


def test_a_taken_port_is_said_in_a_sentence(model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_one_sentence(started("--model_dir", str(model), "--http_port", port), port, "another")
        other = started("--model_dir", str(model), "--http_port", str(free_port()), "--grpc_port", port)
        assert_one_sentence(other, port)


def test_a_wrong_flag_is_refused_with_the_usage() -> None:
    done = started("--http_port", "web")
    assert done.returncode == 2
    assert "is no port" in done.stderr


def test_it_imports_neither_torch_nor_pandas_nor_the_kubernetes_client() -> None:
    code = "import sys, components.serve.server; print({'torch', 'pandas', 'kubernetes'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_it_listens_on_loopback_only(server: RunningServer) -> None:
    ports = {int(server.url.rpartition(":")[2]), int(server.grpc.rpartition(":")[2])}
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if line.split()[3] == "0A" and int(port, 16) in ports:
                listening.append(address)
    # gRPC listens on an IPv6 socket for ::ffff:127.0.0.1.
    assert [address[-8:] for address in listening] == ["0100007F"] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server_quickly(model: Path, tmp_path: Path, number: int) -> None:
    with running(model, tmp_path / "log", "--enable_grpc", "false") as server:
        began = time.monotonic()
        os.kill(server.process.pid, number)
        assert server.process.wait(10) == 0
        assert time.monotonic() - began < 5
        assert "Traceback" not in server.log.read_text()


def test_sigterm_loses_no_request(model: Path, tmp_path: Path) -> None:
    """Clients ask as fast as they can, on connections they keep, until they are told to close them."""
    problems: list[str] = []
    answered = [0] * 6

    def ask(number: int) -> None:
        with httpx.Client(timeout=20) as client:
            while True:
                try:
                    reply = client.post(server.predict, content=photo(3))
                except httpx.ConnectError:
                    return  # nobody listens any more: this request was never accepted
                except httpx.HTTPError as error:
                    problems.append(repr(error))
                    return
                if reply.status_code != 200:
                    problems.append(reply.text)
                answered[number] += 1
                if reply.headers.get("connection") == "close":
                    return

    with running(model, tmp_path / "log") as server:
        clients = [threading.Thread(target=ask, args=(number,)) for number in range(len(answered))]
        for client in clients:
            client.start()
        time.sleep(1.5)
        began = time.monotonic()
        server.process.terminate()
        for client in clients:
            client.join()
        assert server.process.wait(10) == 0
        assert time.monotonic() - began < 10
    assert problems == []
    assert sum(answered) > 6


def test_a_full_queue_refuses_at_once_and_probes_still_answer(model: Path, tmp_path: Path) -> None:
    flags = ("--queue", "4", "--max_photos", "4", "--threads", "1")
    with running(model, tmp_path / "log", *flags) as server, httpx.Client(base_url=server.url) as probe:
        data = photo(3)
        until = time.monotonic() + 3
        statuses: list[int] = []
        retry: set[str | None] = set()

        def ask() -> None:
            with httpx.Client() as client:
                while time.monotonic() < until:
                    reply = client.post(server.predict, files=[("f", ("a.jpg", data))] * 4)
                    statuses.append(reply.status_code)
                    if reply.status_code == 503:
                        retry.add(reply.headers.get("retry-after"))

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask) for _ in range(8)]
            while time.monotonic() < until:
                assert probe.get("/v2/health/ready").is_success
                assert probe.get("/v2/health/live").is_success
            for done in asking:
                done.result()
        assert set(statuses) == {200, 503}
        assert retry == {"1"}
        assert server.metrics()["bin_counter_queue_limit"] == 4


def test_probes_answer_within_50_ms_while_the_server_is_saturated(model: Path, tmp_path: Path) -> None:
    """Half of them at least: a machine that runs tests may be busy otherwise. `make bench-serve` reports the p99."""
    with running(model, tmp_path / "log") as server, httpx.Client(base_url=server.url) as probe:
        until = time.monotonic() + 3
        files = [("f", ("a.jpg", photo(3)))] * 8
        seconds: list[float] = []

        def ask() -> int:
            answered = 0
            with httpx.Client() as client:
                while time.monotonic() < until:
                    reply = client.post(server.predict, files=files)
                    answered += reply.status_code == 200
            return answered

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            while time.monotonic() < until:
                for path in ("/v2/health/live", "/v2/health/ready"):
                    began = time.perf_counter()
                    assert probe.get(path).is_success
                    seconds.append(time.perf_counter() - began)
                time.sleep(0.01)
            assert sum(done.result() for done in asking) > 4
        assert statistics.median(seconds) < 0.05, sorted(seconds)


def test_what_is_served_is_what_evaluate_computes(server: RunningServer) -> None:
    """500 photos: every count is the same, and scores differ by less than 1e-4."""
    data = [photo(1 + number % 5, seed=number) for number in range(500)]
    runtime = open_runtime(read_bundle(server.model))
    pixels = np.stack([decode_squashed(one, runtime.bundle.info.image_size) for one in data])
    expected = runtime.predict(pixels)
    with httpx.Client() as client:
        files = [[("f", ("a.jpg", one)) for one in data[start : start + 8]] for start in range(0, 500, 8)]
        answers = [answer for some in files for answer in client.post(server.predict, files=some).json()["predictions"]]
    assert [answer["count"] for answer in answers] == expected.counts.tolist()
    assert np.abs(np.array([answer["scores"] for answer in answers]) - expected.scores).max() < 1e-4
    assert expected.out_of_range is not None
    assert np.abs(np.array([answer["out_of_range"] for answer in answers]) - expected.out_of_range).max() < 1e-4
