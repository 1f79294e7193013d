"""Who may send a message over gRPC, and for how long.

The library holds a message in memory while it arrives, as large as messages may be, and tells nobody. So a few calls
are received at a time, and until a call is its stream holds no more than one window. Whoever is slow while others wait
gives way.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from grpc import aio

from components.serve.refusal import Refusal

WAITING_CALLS = 256  # each holds 64 KiB at most
AT_ONCE = 4  # messages that are received together
PATIENCE = 1.0  # seconds in which a message is received in peace though others wait


@dataclass(eq=False)
class _Call:
    peer: str
    turn: "asyncio.Future[None]"
    started: float | None = None
    timeout: asyncio.Timeout | None = None


class Readers:
    """Gives calls their turns. Used in the event loop only."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: list[_Call] = []
        self._reading: list[_Call] = []
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, context: aio.ServicerContext) -> Any:
        """The one message of a call, aio.EOF where there is none. Raises Refusal when its turn or it takes too long."""
        loop = asyncio.get_running_loop()
        call = _Call(context.peer(), loop.create_future())
        self._waiting.append(call)
        self._crowd_out()
        self._give_turns()
        try:
            async with asyncio.timeout(self._seconds) as call.timeout:
                await call.turn
                reading = asyncio.ensure_future(context.read())
                # The library must not find its future cancelled; when the call is refused, reading ends by itself.
                reading.add_done_callback(_ignore_outcome)
                return await asyncio.shield(reading)
        except TimeoutError as error:
            raise Refusal(
                503, "slow_message", "The message came too slowly, or while too many others did; send it again."
            ) from error
        finally:
            for calls in (self._waiting, self._reading):
                if call in calls:
                    calls.remove(call)
            self._give_turns()

    def _crowd_out(self) -> None:
        """Where too many wait, the oldest of whoever has most leaves."""
        if len(self._waiting) > WAITING_CALLS:
            calls = self._calls()
            self._end(max(self._waiting, key=lambda call: calls[call.peer]))

    def _give_turns(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._reading) < AT_ONCE:
            calls = self._calls()
            # Whoever has few calls comes first, and of those the newest: many that wait keep no one out.
            call = min(reversed(self._waiting), key=lambda call: calls[call.peer])
            self._waiting.remove(call)
            self._reading.append(call)
            call.started = loop.time()
            if not call.turn.done():
                call.turn.set_result(None)
        if self._waiting and self._timer is None:
            self._timer = loop.call_later(PATIENCE / 4, self._end_slow)

    def _end_slow(self) -> None:
        self._timer = None
        if self._waiting:
            now = asyncio.get_running_loop().time()
            slow = [call for call in self._reading if call.started is not None and now - call.started >= PATIENCE]
            for call in slow:
                self._end(call)
            self._timer = asyncio.get_running_loop().call_later(PATIENCE / 4, self._end_slow)

    def _end(self, call: _Call) -> None:
        if call.timeout is not None:
            call.timeout.reschedule(asyncio.get_running_loop().time())

    def _calls(self) -> Counter[str]:
        return Counter(call.peer for call in (*self._waiting, *self._reading))


def _ignore_outcome(reading: "asyncio.Future[Any]") -> None:
    if not reading.cancelled():
        reading.exception()
