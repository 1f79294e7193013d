"""Requests at a steady rate through the gateway, each remembered that did not get its answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import httpx

from tests.cluster.acceptance.site import MODELS_NAMESPACE, find
from tests.small_model import photo

RATE = 10.0
SETTLE_SECONDS = 15.0


def route_address(name: str) -> tuple[str, str] | None:
    """The gateway's address and the host name that leads to an InferenceService, or None where there is no route."""
    route = find("httproute", MODELS_NAMESPACE, name)
    if not route or not route["spec"].get("hostnames"):
        return None
    parent = route["spec"]["parentRefs"][0]
    gateway = find("gateway", parent.get("namespace", MODELS_NAMESPACE), parent["name"])
    addresses = (gateway or {}).get("status", {}).get("addresses", [])
    if not gateway or not addresses:
        return None
    port = gateway["spec"]["listeners"][0]["port"]
    return f"http://{addresses[0]['value']}:{port}", route["spec"]["hostnames"][0]


class Load:
    """Sends photos until the block ends; `lost` holds what was not answered with 200, and when."""

    def __init__(self, address: str, host: str, rate: float = RATE) -> None:
        """Ready to send to `address` under the name `host`."""
        self.path = f"{address}/v1/models/bin-counter:predict"
        self.headers = {"Host": host, "Content-Type": "image/jpeg"}
        self.rate = rate
        self.sent = 0
        self.lost: list[str] = []
        self._photo = photo(2, seed=2)
        self._stop = threading.Event()
        self._client = httpx.Client(timeout=20)
        self._pool = ThreadPoolExecutor(32)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()
        self._client.close()

    def settle(self) -> None:
        """Go on for as long as old connections may still be in use, then wait for the last answers."""
        time.sleep(SETTLE_SECONDS)
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self._pool.submit(self._ask)
            self.sent += 1
            due += 1 / self.rate
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _ask(self) -> None:
        try:
            answer = self._client.post(self.path, content=self._photo, headers=self.headers)
            if answer.status_code != 200:
                self.lost.append(f"{time.strftime('%X')} {answer.status_code} {answer.text[:100]}")
        except httpx.HTTPError as error:
            self.lost.append(f"{time.strftime('%X')} {type(error).__name__} {error}")
