"""Uvicorn's HTTP protocol with patience that ends, and deaf to offers of other protocols."""

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from components.serve.limits import RequestLimits
from components.serve.metrics import REJECTED

_OFFERS = (b"upgrade", b"http2-settings", b"connection")


def protocol_with_limits(limits: RequestLimits) -> type[HttpToolsProtocol]:
    """The protocol closes connections whose request line and headers come too slowly or never end.

    A request that offers to go on in another protocol (`Upgrade: h2c`) is answered as if it did not (RFC 9110, 7.8).
    The parser would stop at such a request's headers, so it is told them once more without the offer.
    """

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
            self._unset_keepalive_if_required()
            try:
                self._feed(data)
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            if self._fruitless_bytes > limits.header_bytes and not self.transport.is_closing():
                self._refuse(431, "large_headers", f"The headers are larger than {limits.header_bytes:,} bytes.")

        def _feed(self, data: bytes) -> None:
            while True:
                try:
                    self.parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as offer:
                    data = self._without_offer() + data[offer.args[0] :]
                    self.parser = httptools.HttpRequestParser(self)

        def _without_offer(self) -> bytes:
            lines = [b"%s %s HTTP/1.1" % (self.scope["method"].encode(), self.url)]
            lines += [name + b": " + value for name, value in self.headers if name not in _OFFERS]
            return b"\r\n".join([*lines, b"", b""])

        def on_message_begin(self) -> None:
            self._fruitless_bytes = 0
            super().on_message_begin()
            if self._headers_timer is None:
                self._expect_headers()

        def on_headers_complete(self) -> None:
            self._fruitless_bytes = 0
            self._stop_timer()
            if self.parser.should_upgrade():
                self.scope["method"] = self.parser.get_method().decode("ascii")
                return
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._fruitless_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._fruitless_bytes = 0
            if not self.parser.should_upgrade():
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
