"""`make attack-serve`: everything at once against one server beside honest photos, drawn from a seed.

Goals: no undeserved 5xx; peak memory of 1.2 GiB, and within 20 % of before a minute later; honest photos answered
within 5 s throughout; an end within 10 s of SIGTERM in the middle of it.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import platform
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
import psutil

from benchmarks.attack.inputs import draw, honest_photo
from benchmarks.attack.slow import hold_bodies, hold_calls
from benchmarks.serving.servers import Started, ours, running

RESULT = Path(__file__).parent.parent / "results" / "attack.json"
GROUP_BYTES = 2 * 1024**3
PEAK_BYTES = 1.2 * 1024**3
HONEST_SECONDS = 5.0
END_SECONDS = 10.0
REST_SECONDS = 60.0
ATTACKERS = 6


@dataclass
class Attack:
    """What happened. Sizes in bytes, times in seconds; `undeserved` counts by kind what no request should see."""

    date: str
    machine: str
    seed: int
    seconds: float
    control_group: str
    hostile: dict[str, int] = field(default_factory=dict)
    honest: int = 0
    honest_slowest: float = 0.0
    undeserved: dict[str, int] = field(default_factory=dict)
    memory_before: int = 0
    memory_peak: int = 0
    memory_after: int = 0
    end_seconds: float = 0.0

    @property
    def missed(self) -> list[str]:
        """The goals that were missed, in words."""
        goals = {
            f"undeserved answers {self.undeserved}": not self.undeserved,
            f"peak {self.memory_peak >> 20} MiB": self.memory_peak <= PEAK_BYTES,
            f"memory afterwards {self.memory_after >> 20} MiB": self.memory_after <= 1.2 * self.memory_before,
            f"slowest honest photo {self.honest_slowest:.1f} s": self.honest_slowest <= HONEST_SECONDS,
            f"{self.end_seconds:.1f} s from SIGTERM to the end": self.end_seconds <= END_SECONDS,
        }
        return [goal for goal, met in goals.items() if not met]


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
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    result = Attack(today, f"{psutil.cpu_count()} cores {platform.machine()}", seed, seconds, "none")
    with running(ours("attack", model), log) as server, _control_group(server.process.pid) as group:
        result.control_group = group
        grpc_port = int(server.process.cmdline()[-1])
        client = httpx.Client(timeout=60)
        for number in range(20):
            client.post(_address(server), content=honest_photo(number))
        result.memory_before = server.memory
        watch = _Watch(server.process)
        _everything(server, grpc_port, seconds, seed, result)
        result.memory_peak = watch.peak
        time.sleep(rest)
        result.memory_after = server.memory
        watch.stop()
        ending = threading.Timer(min(seconds, 5.0), _end, (server, result))
        ending.start()
        _everything(server, grpc_port, min(seconds, 5.0) + 1.0, seed + 1, Attack("", "", 0, 0, ""))
        ending.join()
    return result


def _address(server: Started) -> str:
    return f"http://127.0.0.1:{server.port}{server.launch.predict_path}"


def _everything(server: Started, grpc_port: int, seconds: float, seed: int, result: Attack) -> None:
    until = time.monotonic() + seconds
    hostile: Counter[str] = Counter()
    undeserved: Counter[str] = Counter()
    threads = [
        threading.Thread(target=_hostile, args=(server, number, seed, until, hostile, undeserved))
        for number in range(ATTACKERS)
    ]
    threads.append(threading.Thread(target=_honest, args=(server, until, result, undeserved)))
    threads.append(threading.Thread(target=hold_bodies, args=(server.port, 8, 32 * 1024 * 1024, until)))
    threads.append(threading.Thread(target=hold_calls, args=(grpc_port, 60, 29 * 1024 * 1024, until)))
    threads.append(threading.Thread(target=hold_calls, args=(grpc_port, 256, 0, until)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.hostile = dict(sorted(hostile.items()))
    result.undeserved = dict(undeserved)


def _hostile(
    server: Started, number: int, seed: int, until: float, seen: Counter[str], undeserved: Counter[str]
) -> None:
    place = number
    with httpx.Client(timeout=60) as client:
        while time.monotonic() < until:
            one = draw(place, seed)
            place += ATTACKERS
            seen[one.kind] += 1
            if not one.waits:
                _send_and_leave(server.port, one.body, dict(one.headers)["Content-Type"])
                continue
            try:
                reply = client.post(_address(server), content=one.body, headers=dict(one.headers))
            except httpx.HTTPError:
                continue  # a refusal in the middle of an upload may reset the connection
            if reply.status_code >= 500 and reply.status_code != 503:
                undeserved[f"{reply.status_code} for {one.kind}"] += 1


def _send_and_leave(port: int, body: bytes, content_type: str) -> None:
    head = f"POST /v1/models/bin-counter:predict HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n"
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.2)


def _honest(server: Started, until: float, result: Attack, undeserved: Counter[str]) -> None:
    """One photo after the other, as a scanner in the aisle would send them."""
    number = 0
    with httpx.Client(timeout=60) as client:
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                outcome = str(client.post(_address(server), content=honest_photo(number)).status_code)
            except httpx.HTTPError as error:
                outcome = type(error).__name__
            result.honest_slowest = max(result.honest_slowest, time.monotonic() - began)
            result.honest += 1
            number += 1
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


def main() -> None:
    """Attack, and write benchmarks/results/attack.json; status 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(".local/latest/model"))
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = attack(arguments.model, arguments.seconds, arguments.seed, Path(folder) / "log")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({**dataclasses.asdict(result), "missed": result.missed}, indent=1) + "\n")
    print(RESULT.read_text())
    if result.missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
