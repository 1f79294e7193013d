"""`make soak-serve`: ten minutes at saturation, a tenth of it bad input; no error undeserved, memory flat."""

import argparse
import dataclasses
import datetime
import json
import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.serving.servers import Started, ours, running
from drawn.bins import draw_bins

RESULT = Path(__file__).parent / "results" / "soak.json"
CLIENTS = 8
BAD_SHARE = 0.1


@dataclass(frozen=True)
class Soak:
    """What happened. `undeserved` holds statuses that a request should not have had."""

    date: str
    seconds: float
    answered: int
    refused: int
    undeserved: dict[str, int]
    slowest_seconds: float
    memory_start_mb: float
    memory_end_mb: float

    @property
    def growth(self) -> float:
        """Memory at the end against memory after the first tenth."""
        return self.memory_end_mb / self.memory_start_mb


def soak(model: Path, seconds: float, log: Path) -> Soak:
    """Keep a server busy for some time."""
    good = [drawn.jpeg for drawn in draw_bins(60, 1) if drawn.jpeg is not None and drawn.jpeg.endswith(b"\xff\xd9")]
    bad = [b"", b"<html></html>", good[0][:300], good[1][: len(good[1]) // 2], b"\x89PNG\r\n\x1a\n" + bytes(40)]
    seen: Counter[str] = Counter()
    slowest = [0.0] * CLIENTS

    def client(number: int, server: Started, end: float) -> None:
        draw = random.Random(number)  # noqa: S311 - a load, no secret
        address = f"http://127.0.0.1:{server.port}{server.launch.predict_path}"
        with httpx.Client(timeout=60) as session:
            while time.monotonic() < end:
                is_bad = draw.random() < BAD_SHARE
                started = time.monotonic()
                try:
                    reply = session.post(address, content=draw.choice(bad if is_bad else good))
                    outcome = str(reply.status_code)
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
                slowest[number] = max(slowest[number], time.monotonic() - started)
                expected = "400" if is_bad else "200"
                seen[outcome if outcome == expected else f"{outcome} for {'bad' if is_bad else 'good'} input"] += 1

    with running(ours("soak", model), log) as server, ThreadPoolExecutor(CLIENTS) as pool:
        end = time.monotonic() + seconds
        clients = [pool.submit(client, number, server, end) for number in range(CLIENTS)]
        time.sleep(seconds / 10)
        early = server.memory
        for one in clients:
            one.result()
        late = server.memory
    undeserved = {name: number for name, number in seen.items() if name not in ("200", "400")}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Soak(today, seconds, seen["200"], seen["400"], undeserved, max(slowest), early / 1e6, late / 1e6)


def main() -> None:
    """Soak, and write benchmarks/results/soak.json; status 1 when something was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(".local/latest/model"))
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(arguments.model, arguments.seconds, Path(folder) / "log")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(dataclasses.asdict(result), indent=1) + "\n")
    print(RESULT.read_text())
    if result.undeserved or result.growth > 1.1:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
