"""What a record costs the endpoint: requests a second with and without one, in turn. Part of `make bench-record`.

    python -m benchmarks.record_cost --model .local/latest/model

JSON requests with one photo at saturation; the other half has a record with three products. Rounds alternate, so that
whatever else the machine does meets both alike. Written to results/record_cost.json.
"""

import argparse
import base64
import json
import tempfile
from datetime import date
from pathlib import Path
from statistics import median

from pydantic import BaseModel

from benchmarks.machine import machine
from benchmarks.serving.load import Target, saturate
from benchmarks.serving.servers import ours, running
from benchmarks.tables import RESULTS
from components.core.files import write_whole
from components.core.layout import MODEL_NAME
from drawn.bins import draw_bins

COST_FILE = RESULTS / "record_cost.json"
ROUNDS = 21
SECONDS = 4.0
CONNECTIONS = 8
PHOTOS = 40
_RECORD = {
    "quantity": 4,
    "products": [
        {"quantity": 2, "length": 20, "width": 10, "height": 5, "unit": "cm", "weight": 0.4, "weight_unit": "kg"},
        {"quantity": 1, "length": 8, "width": 6, "height": 2, "unit": "in", "weight": 1, "weight_unit": "lb"},
        {"quantity": 1},
    ],
}


class Cost(BaseModel):
    """Requests a second in each round, and the median of what a record costs, as a share of them."""

    machine: str
    day: str
    without: tuple[float, ...]
    with_record: tuple[float, ...]
    cost: float


def measure(model: Path) -> Cost:
    """Ask in turn. Raises SystemExit when a request fails."""
    photos = [base64.b64encode(one.jpeg).decode() for one in draw_bins(PHOTOS) if one.jpeg and _is_whole(one.jpeg)]
    bodies = {
        told: [json.dumps({"instances": [{"b64": photo, **more}]}).encode() for photo in photos]
        for told, more in ((False, {}), (True, {"record": _RECORD}))
    }
    rates: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder, running(ours("ours", model), Path(folder) / "log") as server:
        for _ in range(ROUNDS):
            for told in (False, True):
                path = f"/v1/models/{MODEL_NAME}:predict"
                target = Target.of(server.port, path, bodies[told], "application/json")
                outcome = saturate(target, CONNECTIONS, SECONDS)
                if set(outcome.statuses) != {200}:
                    raise SystemExit(f"error: not every request was answered: {outcome.statuses}")
                rates[told].append(outcome.rate)
    shares = [1 - told / untold for untold, told in zip(rates[False], rates[True], strict=True)]
    return Cost(
        machine=machine(),
        day=date.today().isoformat(),
        without=tuple(rates[False]),
        with_record=tuple(rates[True]),
        cost=median(shares),
    )


def _is_whole(jpeg: bytes) -> bool:
    return jpeg.endswith(b"\xff\xd9")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record_cost", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a bundle that knows of records")
    cost = measure(parser.parse_args().model)
    write_whole(COST_FILE, cost.model_dump_json(indent=1) + "\n")
    print(f"without {median(cost.without):.1f}/s, with a record {median(cost.with_record):.1f}/s: {cost.cost:+.1%}")


if __name__ == "__main__":
    main()
