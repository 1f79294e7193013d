"""What keeps the HTTP side standing: limits on bodies and on time, an error for everything, orderly closing."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from components.serve.limits import HttpLimits
from components.serve.metrics import REJECTED
from components.serve.refusal import Refusal, overloaded


def error_response(refusal: Refusal) -> Response:
    """A refusal as a JSON answer, counted in the metrics."""
    REJECTED.labels(refusal.reason).inc()
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not wanted
    body = orjson.dumps({"error": refusal.message, "reason": refusal.reason})
    return Response(body, refusal.status, headers, "application/json")


class Guard:
    """ASGI middleware around the whole application.

    Bodies are counted while they arrive; a body that is announced or grows too large, or takes too long, is refused
    there and then. While the server drains, answers ask the client to close its connection.
    """

    def __init__(self, app: ASGIApp, limits: HttpLimits) -> None:
        self._app = app
        self._limits = limits
        self._held = 0
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self.draining:
                    message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        with self._holding() as hold:
            try:
                self._check_announced(scope)
                await self._app(scope, self._limited(receive, hold), send_marked)
            except Refusal as refusal:
                if started:
                    raise
                await error_response(refusal)(scope, receive, send_marked)

    @contextlib.contextmanager
    def _holding(self) -> Iterator[Callable[[int], int]]:
        """Counts what this request holds in memory; the count is given back at the end."""
        mine = 0

        def hold(number: int) -> int:
            nonlocal mine
            mine += number
            self._held += number
            if self._held > self._limits.bodies_bytes:
                raise overloaded("The server is receiving as much as it can hold; try again in a second.")
            return mine

        try:
            yield hold
        finally:
            self._held -= mine

    def _check_announced(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value[:18]) > self._limits.body_bytes:
                raise self._too_large()

    def _too_large(self) -> Refusal:
        return Refusal(413, "body_too_large", f"The body is larger than {self._limits.body_bytes:,} bytes.")

    def _limited(self, receive: Receive, hold: Callable[[int], int]) -> Receive:
        deadline = time.monotonic() + self._limits.body_seconds
        complete = False

        async def limited() -> Message:
            nonlocal complete
            if complete:  # what comes now is the disconnect, for which there is no hurry
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(deadline - time.monotonic(), 0.0))
            except TimeoutError as error:
                seconds = f"{self._limits.body_seconds:.0f}"
                raise Refusal(408, "slow_body", f"The body did not arrive within {seconds} seconds.") from error
            if message["type"] == "http.request":
                complete = not message.get("more_body", False)
                if hold(len(message.get("body", b""))) > self._limits.body_bytes:
                    raise self._too_large()
            return message

        return limited


def protocol_with_header_timeout(seconds: float) -> type[HttpToolsProtocol]:
    """Uvicorn's HTTP protocol, which closes connections whose request line and headers do not arrive in time."""

    class PatientProtocol(HttpToolsProtocol):
        _headers_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._headers_timer is None:
                self._expect_headers()

        def on_headers_complete(self) -> None:
            self._stop_timer()
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:
            body = orjson.dumps({"error": msg, "reason": "bad_http"})
            head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            self.transport.close()

        def _expect_headers(self) -> None:
            self._headers_timer = self.loop.call_later(seconds, self._give_up)

        def _stop_timer(self) -> None:
            if self._headers_timer is not None:
                self._headers_timer.cancel()
                self._headers_timer = None

        def _give_up(self) -> None:
            self._headers_timer = None
            if not self.transport.is_closing():
                body = orjson.dumps(
                    {"error": "The request's headers did not arrive in time.", "reason": "slow_headers"}
                )
                head = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
                self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
                self.transport.close()

    return PatientProtocol
