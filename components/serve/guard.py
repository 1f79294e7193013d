"""What keeps the HTTP side standing: limits on bodies and on time, an error for everything, orderly closing."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
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
        deadline = asyncio.get_running_loop().time() + self._limits.body_seconds
        complete = False

        async def limited() -> Message:
            nonlocal complete
            if complete:  # what comes now is the disconnect, for which there is no hurry
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):  # wait_for would make a task of it
                    message = await receive()
            except TimeoutError as error:
                seconds = f"{self._limits.body_seconds:.0f}"
                raise Refusal(408, "slow_body", f"The body did not arrive within {seconds} seconds.") from error
            if message["type"] == "http.request":
                complete = not message.get("more_body", False)
                if hold(len(message.get("body", b""))) > self._limits.body_bytes:
                    raise self._too_large()
            return message

        return limited


def protocol_with_limits(limits: HttpLimits) -> type[HttpToolsProtocol]:
    """Uvicorn's HTTP protocol, which closes connections whose request line and headers come too slowly or never end."""

    class PatientProtocol(HttpToolsProtocol):
        _headers_timer: asyncio.TimerHandle | None = None
        _fruitless_bytes = 0  # of headers, trailers and chunk extensions, since something last came of them

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._fruitless_bytes += len(data)
            super().data_received(data)
            if self._fruitless_bytes > limits.header_bytes and not self.transport.is_closing():
                self._refuse(431, "large_headers", f"The headers are larger than {limits.header_bytes:,} bytes.")

        def on_message_begin(self) -> None:
            self._fruitless_bytes = 0
            super().on_message_begin()
            if self._headers_timer is None:
                self._expect_headers()

        def on_headers_complete(self) -> None:
            self._fruitless_bytes = 0
            self._stop_timer()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._fruitless_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._fruitless_bytes = 0
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "bad_http", msg)

        def _refuse(self, status: int, reason: str, message: str) -> None:
            """Answer without the application, which has no request yet, and close the connection."""
            REJECTED.labels(reason).inc()
            body = orjson.dumps({"error": message, "reason": reason})
            head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n".encode()
            self.transport.write(head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            self.transport.close()

        def _expect_headers(self) -> None:
            self._headers_timer = self.loop.call_later(limits.header_seconds, self._give_up)

        def _stop_timer(self) -> None:
            if self._headers_timer is not None:
                self._headers_timer.cancel()
                self._headers_timer = None

        def _give_up(self) -> None:
            self._headers_timer = None
            if not self.transport.is_closing():
                self._refuse(408, "slow_headers", "The request's headers did not arrive in time.")

    return PatientProtocol
