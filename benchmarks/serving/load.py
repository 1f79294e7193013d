"""A small HTTP load generator: a fixed number of connections, or requests at a fixed rate.

It shares the machine's cores with the servers that it measures, so it does as little as it can: requests are prepared
bytes, and of an answer only the status and the length are read.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle

import uvloop

REFUSED_SECONDS = 60.0  # what a refused request counts for at a fixed rate


@dataclass(frozen=True)
class Target:
    """Where requests go, and what they look like."""

    port: int
    requests: tuple[bytes, ...]

    @classmethod
    def of(cls, port: int, path: str, bodies: Sequence[bytes], content_type: str) -> "Target":
        """Prepare requests with these bodies."""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\nContent-Length: "
        return cls(port, tuple(head.encode() + b"%d\r\n\r\n" % len(body) + body for body in bodies))


@dataclass
class Outcome:
    """What came back: seconds of every answer, and how many had which status."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    elapsed: float = 0.0
    probes: list[float] = field(default_factory=list)  # seconds of every health probe beside the load
    late: list[float] = field(default_factory=list)  # seconds that this generator itself sent too late, at a fixed rate

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.statuses.get(200, 0) / self.elapsed

    def quantile(self, share: float) -> float:
        """The time within which this share of answers came, in seconds."""
        return quantile(self.seconds, share)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def saturate(target: Target, connections: int, seconds: float, probes: Sequence[str] = ()) -> Outcome:
    """Keep every connection busy; meanwhile ask the paths `probes` in turn, fifty times a second."""
    return uvloop.run(_saturate(target, connections, seconds, probes))


def at_rate(target: Target, rate: float, seconds: float) -> Outcome:
    """Send at a fixed rate whatever comes back; times count from when a request was due."""
    return uvloop.run(_at_rate(target, rate, seconds))


async def _saturate(target: Target, connections: int, seconds: float, probes: Sequence[str]) -> Outcome:
    outcome = Outcome()
    bodies = cycle(target.requests)
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=2**20)
        while (started := time.perf_counter()) < end:
            await _ask(reader, writer, next(bodies), outcome)
            outcome.seconds.append(time.perf_counter() - started)
        writer.close()

    async def probe() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        for path in cycle(probes):
            if (started := time.perf_counter()) >= end:
                break
            await _ask(reader, writer, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(), Outcome())
            outcome.probes.append(time.perf_counter() - started)
            await asyncio.sleep(0.02)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)), *([probe()] if probes else []))
    outcome.elapsed = time.perf_counter() - started
    return outcome


async def _at_rate(target: Target, rate: float, seconds: float) -> Outcome:
    outcome = Outcome()
    free: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()
    started = time.perf_counter()

    async def one(due: float, request: bytes) -> None:
        pair = free.get_nowait() if not free.empty() else await asyncio.open_connection("127.0.0.1", target.port)
        status = await _ask(*pair, request, outcome)
        # A refusal is quick, and must not pass for a quick answer.
        outcome.seconds.append(time.perf_counter() - due if status == 200 else REFUSED_SECONDS)
        free.put_nowait(pair)

    async with asyncio.TaskGroup() as group:
        for number, request in zip(range(int(rate * seconds)), cycle(target.requests), strict=False):
            due = started + number / rate
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            outcome.late.append(time.perf_counter() - due)
            group.create_task(one(due, request))
    outcome.elapsed = time.perf_counter() - started
    return outcome


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, outcome: Outcome) -> int:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
    if b"transfer-encoding: chunked" in head:
        while (length := int((await reader.readline()).strip(), 16)) > 0:
            await reader.readexactly(length + 2)
        await reader.readexactly(2)
    else:
        await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
    return status
