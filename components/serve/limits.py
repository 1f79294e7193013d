"""Limits of requests, the memory that all of them may take together, and the seconds of an end."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from components.serve.refusal import Refusal, overloaded

# SIGTERM: the server says that it is not ready and answers ask clients to close their connections, but new ones are
# still taken for so long, whether or not any is open: gateways learn late that a server ends …
LINGER_SECONDS = 2.0
# … then nothing new is taken, and what was taken is answered, or is told that it will not be.
FINISH_SECONDS = 5.0
# Workers that still decode after that are not waited for any longer.
END_SECONDS = 1.0


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one request and of all that are being received or answered, over HTTP and gRPC, in bytes and seconds.

    A request is small until it holds more than `small_bytes`; `reserved_bytes` are kept for small ones. A body may take
    `body_seconds` and as long as it comes at `least_rate` bytes a second.
    """

    body_bytes: int = 32 * 1024 * 1024
    total_bytes: int = 192 * 1024 * 1024
    small_bytes: int = 1024 * 1024
    reserved_bytes: int = 64 * 1024 * 1024
    header_bytes: int = 64 * 1024
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    least_rate: int = 32 * 1024
    json_parts: int = 10_000  # brackets, commas and colons; the photos are long strings


@dataclass(eq=False)
class Share:
    """What one request holds of the memory, while the block of `Memory.share` lasts."""

    memory: "Memory"
    started: float
    held: int = 0
    is_evicted: bool = False
    receiving: asyncio.Timeout | None = field(default=None)

    def hold(self, number: int) -> None:
        """Hold so many bytes more. Raises Refusal when there is no room."""
        self.memory.take(self, number)

    @contextmanager
    def more(self, number: int) -> Iterator[None]:
        """Hold so many bytes more for as long as the block lasts. Raises Refusal."""
        self.hold(number)
        try:
            yield
        finally:
            self.memory.give_back(self, number)


class Memory:
    """The bytes of all requests. Used in the event loop only.

    Where there is no room, the request that has been received for longest makes some, if that is long.
    """

    patience = 5.0  # seconds for which a request is received in peace

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._shares: set[Share] = set()
        self._held = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """What a request holds; all of it is given back at the end of the block."""
        share = Share(self, asyncio.get_running_loop().time())
        self._shares.add(share)
        try:
            yield share
        finally:
            self._shares.discard(share)
            self.give_back(share, share.held)

    def take(self, share: Share, number: int) -> None:
        """Hold more for a request. Raises Refusal."""
        room = self._limits.total_bytes
        if share.held + number > self._limits.small_bytes:
            room -= self._limits.reserved_bytes
        if self._held + number > room:
            self._evict(share)
            raise overloaded("The server is receiving as much as it can hold; try again in a second.")
        share.held += number
        self._held += number

    def give_back(self, share: Share, number: int) -> None:
        """Hold less."""
        share.held -= number
        self._held -= number

    def _evict(self, newcomer: Share) -> None:
        now = asyncio.get_running_loop().time()
        others = [share for share in self._shares if share.receiving is not None and share.held and share != newcomer]
        oldest = min(others, key=lambda share: share.started, default=None)
        if oldest is not None and now - oldest.started > self.patience and not oldest.is_evicted:
            oldest.is_evicted = True
            if oldest.receiving is not None and not oldest.receiving.expired():
                oldest.receiving.reschedule(now)


def evicted() -> Refusal:
    """A request that was received too slowly while others waited."""
    return Refusal(503, "slow_body", "The request came slowly while others waited; send it again.", retry_after=1)
