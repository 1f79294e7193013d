"""`make attack-serve`: everything at once against one server beside honest photos, drawn from a seed.

Goals: no undeserved 5xx; peak memory of 1.2 GiB, and within 20 % of before a minute later; honest photos answered
within 5 s throughout; an end within 10 s of SIGTERM in the middle of it.
"""

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks.attack.calls import wrong_calls
from benchmarks.attack.inputs import Hostile, draw, honest_photo
from benchmarks.attack.slow import hold_bodies, hold_calls
from benchmarks.machine import machine
from benchmarks.serving.servers import Started, ours, running
from benchmarks.tables import markdown_table, told, write_results
from components.core.pixels import decode_squashed

MODEL, MODEL_SIZE = "tf_efficientnet_lite0", 208
GROUP_BYTES = 2 * 1024**3
PEAK_BYTES = 1.2 * 1024**3
HONEST_SECONDS = 5.0
END_SECONDS = 10.0
GROWTH = 0.2
REST_SECONDS = 60.0
ATTACKERS = 6
SENT_AT_ONCE = 65_536  # bytes, less than a connection buffers
PREPARED = 72  # requests, made before anything is measured and sent in turn


@dataclass(frozen=True)
class Goal:
    """One row of the table."""

    what: str
    found: str
    at_most: str
    met: bool


@dataclass
class Attack:
    """What happened. Sizes in bytes, times in seconds; `undeserved` counts by kind what no request should see."""

    date: str
    machine: str
    seed: int
    seconds: float
    control_group: str
    rest: float = REST_SECONDS
    hostile: dict[str, int] = field(default_factory=dict)
    honest: int = 0
    honest_slowest: float = 0.0
    undeserved: dict[str, int] = field(default_factory=dict)
    memory_before: int = 0
    memory_peak: int = 0
    memory_after: int = 0
    end_seconds: float = 0.0

    @property
    def goals(self) -> list[Goal]:
        """What was asked, what was found."""
        growth = self.memory_after / max(self.memory_before, 1)
        return [
            Goal("answers that no request should see", str(self.undeserved or "none"), "none", not self.undeserved),
            Goal("peak memory", _mebibytes(self.memory_peak), "1.2 GiB", self.memory_peak <= PEAK_BYTES),
            Goal(
                f"memory {self.rest:.0f} s later, against before",
                f"{_mebibytes(self.memory_after)} against {_mebibytes(self.memory_before)}",
                f"{100 * GROWTH:.0f} % more",
                growth <= 1 + GROWTH,
            ),
            Goal(
                f"slowest of {self.honest:,} honest photos",
                f"{self.honest_slowest:.2f} s",
                f"{HONEST_SECONDS:.0f} s",
                self.honest_slowest <= HONEST_SECONDS,
            ),
            Goal(
                "from SIGTERM in the middle of it to the end",
                f"{self.end_seconds:.1f} s",
                f"{END_SECONDS:.0f} s",
                self.end_seconds <= END_SECONDS,
            ),
        ]

    @property
    def missed(self) -> list[Goal]:
        """Goals that were not reached."""
        return [goal for goal in self.goals if not goal.met]


def _mebibytes(number: int) -> str:
    return f"{number >> 20:,} MiB"


class _Watch:
    """The largest resident size of a process so far."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.peak = max(self.peak, self._process.memory_info().rss)

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()


def attack(model: Path, seconds: float, seed: int, log: Path, rest: float = REST_SECONDS) -> Attack:
    """Attack a server for so long, let it rest, and end another one in the middle of an attack."""
    prepared = [draw(number, seed) for number in range(PREPARED)]
    honest = [honest_photo(number) for number in range(20)]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    result = Attack(today, machine(), seed, seconds, "none", rest)
    with running(ours("attack", model), log) as server, _control_group(server.process.pid) as group:
        result.control_group = group
        grpc_port = int(server.process.cmdline()[-1])
        client = httpx.Client(timeout=60)
        for photo in honest:
            client.post(_address(server), content=photo)
        result.memory_before = server.memory
        watch = _Watch(server.process)
        _everything(server, grpc_port, seconds, prepared, honest, result)
        result.memory_peak = watch.peak
        time.sleep(rest)
        result.memory_after = server.memory
        watch.stop()
        ending = threading.Timer(min(seconds, 5.0), _end, (server, result))
        ending.start()
        _everything(server, grpc_port, min(seconds, 5.0) + 1.0, prepared, honest, Attack("", "", 0, 0, ""))
        ending.join()
    return result


def _root(server: Started) -> str:
    return f"http://127.0.0.1:{server.port}"


def _address(server: Started) -> str:
    return f"{_root(server)}{server.launch.predict_path}"


def _everything(
    server: Started, grpc_port: int, seconds: float, prepared: list[Hostile], honest: list[bytes], result: Attack
) -> None:
    until = time.monotonic() + seconds
    hostile: Counter[str] = Counter()
    undeserved: Counter[str] = Counter()
    threads = [
        threading.Thread(target=_hostile, args=(server, prepared[number::ATTACKERS], until, hostile, undeserved))
        for number in range(ATTACKERS)
    ]
    threads.append(threading.Thread(target=_honest, args=(server, honest, until, result, undeserved)))
    threads.append(threading.Thread(target=hold_bodies, args=(server.port, 8, 32 * 1024 * 1024, until)))
    threads.append(threading.Thread(target=hold_calls, args=(grpc_port, 60, 29 * 1024 * 1024, until)))
    threads.append(threading.Thread(target=hold_calls, args=(grpc_port, 256, 0, until)))
    threads.append(threading.Thread(target=wrong_calls, args=(grpc_port, result.seed, until, hostile, undeserved)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.hostile = dict(sorted(hostile.items()))
    result.undeserved = dict(undeserved)


def _hostile(
    server: Started, prepared: list[Hostile], until: float, seen: Counter[str], undeserved: Counter[str]
) -> None:
    with httpx.Client(timeout=60) as client:
        for one in itertools.cycle(prepared):
            if time.monotonic() >= until:
                return
            seen[one.kind] += 1
            if not one.waits:
                _send_and_leave(server.port, one.body, dict(one.headers)["Content-Type"])
                continue
            try:
                reply = client.post(_root(server) + one.path, content=one.body, headers=dict(one.headers))
            except httpx.HTTPError as error:
                # A refusal in the middle of an upload may reset the connection; what was sent whole gets an answer.
                if len(one.body) < SENT_AT_ONCE:
                    undeserved[f"{type(error).__name__} for {one.kind}"] += 1
                continue
            busy = reply.status_code in (429, 503)
            if not busy and reply.status_code not in (one.answers or range(200, 500)):
                undeserved[f"{reply.status_code} for {one.kind}"] += 1


def _send_and_leave(port: int, body: bytes, content_type: str) -> None:
    head = f"POST /v1/models/bin-counter:predict HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n"
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.2)


def _honest(server: Started, photos: list[bytes], until: float, result: Attack, undeserved: Counter[str]) -> None:
    """One photo after the other, as a scanner in the aisle would send them."""
    with httpx.Client(timeout=60) as client:
        for photo in itertools.cycle(photos):
            if time.monotonic() >= until:
                return
            began = time.monotonic()
            try:
                outcome = str(client.post(_address(server), content=photo).status_code)
            except httpx.HTTPError as error:
                outcome = type(error).__name__
            result.honest_slowest = max(result.honest_slowest, time.monotonic() - began)
            result.honest += 1
            if outcome != "200":
                undeserved[f"{outcome} for an honest photo"] += 1
            time.sleep(0.05)


def _end(server: Started, result: Attack) -> None:
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(psutil.TimeoutExpired):
        server.process.wait(60)
    result.end_seconds = time.monotonic() - began


@contextlib.contextmanager
def _control_group(pid: int) -> Iterator[str]:
    """Put a process into a control group with 2 GiB of memory, where this user may make one."""
    for root, limit in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        folder = Path(root) / f"bin-counter-attack-{pid}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text(str(GROUP_BYTES))
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        yield "2 GiB"
        for _ in range(100):  # until the process has left it
            with contextlib.suppress(OSError):
                folder.rmdir()
                return
            time.sleep(0.1)
        return
    yield "none"


def table(result: Attack) -> list[str]:
    """The section of RESULTS.md."""
    group = "" if result.control_group == "none" else f" in a control group of {result.control_group}"
    sent = ", ".join(f"{number:,} {kind}" for kind, number in result.hostile.items())
    return [
        "# Serving under attack",
        "",
        f"`make attack-serve`, {result.date}, {result.machine}. {result.seconds:.0f} s, seed {result.seed}, one server"
        f"{group},",
        f"{ATTACKERS} clients that send what is meant to hurt ({sent}),",
        "8 uploads of 32 MiB that never end, 316 gRPC calls that never end, and one client that asks honestly.",
        "",
        *markdown_table(
            ["what", "found", "at most", ""],
            [[goal.what, goal.found, goal.at_most, told(goal.met)] for goal in result.goals],
        ),
    ]


def main() -> None:
    """Attack, and write benchmarks/results/attack.*; status 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="default: an EfficientNet-Lite0, as make bench-serve has it")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or _usual_model(Path(folder))
        result = attack(model, arguments.seconds, arguments.seed, Path(folder) / "log")
    write_results("attack", dataclasses.asdict(result), table(result))
    print("\n".join(table(result)))
    if result.missed:
        raise SystemExit(1)


def _usual_model(folder: Path) -> Path:
    from benchmarks.serving.bundles import make_bundles

    pixels = np.stack([decode_squashed(honest_photo(number), MODEL_SIZE) for number in range(8)])
    return make_bundles(folder, MODEL, pixels, ("f32",))["f32"].folder


if __name__ == "__main__":
    main()
