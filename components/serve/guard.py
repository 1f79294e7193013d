"""What keeps the HTTP side standing: limits on bodies and on time, an error for everything, orderly closing."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serve.coding import Decoder
from components.serve.limits import Memory, RequestLimits, Share, evicted
from components.serve.metrics import REJECTED
from components.serve.refusal import Refusal, stopping

SHARE = "bin_counter.share"  # the key of a request's Share in its scope


def error_response(refusal: Refusal) -> Response:
    """A refusal as a JSON answer, counted in the metrics."""
    REJECTED.labels(refusal.reason).inc()
    headers = dict(refusal.headers)
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status in (408, 413) or refusal.reason in ("slow_body", "stopping"):
        headers["Connection"] = "close"  # the rest of the body is not wanted
    body = orjson.dumps({"error": refusal.message, "reason": refusal.reason})
    return Response(body, refusal.status, headers, "application/json")


class Guard:
    """ASGI middleware around the whole application.

    Bodies are counted while they arrive, after decoding a Content-Encoding; a body that is announced or grows too
    large, or comes too slowly, is refused there and then. Pages of others may not ask. While the server drains,
    answers ask the client to close its connection.
    """

    def __init__(self, app: ASGIApp, limits: RequestLimits, memory: Memory, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._limits = limits
        self._memory = memory
        self._hosts = hosts
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

        with self._memory.share() as share:
            try:
                headers = Headers(scope=scope)
                self._check_announced(headers)
                if scope["method"] == "POST":
                    check_page(headers, self._hosts)
                # To HEAD uvicorn answers without a body, whatever the application sends.
                method = "GET" if scope["method"] == "HEAD" else scope["method"]
                body = self._body(receive, share, Decoder.of(headers.get("content-encoding", "")))
                inner = {**scope, "method": method, SHARE: share}
                await self._app(inner, _as_receive(body, receive), send_marked)
            except Refusal as refusal:
                if started:
                    raise
                await error_response(refusal)(scope, receive, send_marked)
            except asyncio.CancelledError:  # uvicorn's, when the time for finishing is over
                if started or not self.draining:
                    raise
                await error_response(stopping())(scope, receive, send_marked)

    def _check_announced(self, headers: Headers) -> None:
        length = headers.get("content-length", "")
        if length.isdigit() and int(length[:18]) > self._limits.body_bytes:
            raise self._too_large()

    def _too_large(self) -> Refusal:
        return Refusal(413, "body_too_large", f"The body is larger than {self._limits.body_bytes:,} bytes.")

    async def _body(self, receive: Receive, share: Share, decoder: Decoder | None) -> AsyncIterator[Message]:
        """The messages of a body, and that its client left if it does before the end."""
        received = length = 0
        more = True
        while more:
            message = await self._next(receive, share, received)
            if message["type"] != "http.request":
                yield message
                return
            data, more = message.get("body", b""), message.get("more_body", False)
            received += len(data)
            if received > self._limits.body_bytes:  # also where it decodes to little or nothing
                raise self._too_large()
            for piece in [data] if decoder is None else decoder.pieces(data):
                length += len(piece)
                if length > self._limits.body_bytes:
                    raise self._too_large()
                share.hold(len(piece))
                if decoder is not None:
                    await asyncio.sleep(0)  # a few bytes may decode to many
                yield {"type": "http.request", "body": piece, "more_body": True}
            if not more:
                if decoder is not None and received:
                    decoder.end()
                yield {"type": "http.request", "body": b"", "more_body": False}

    async def _next(self, receive: Receive, share: Share, received: int) -> Message:
        seconds = self._limits.body_seconds + received / self._limits.least_rate
        try:
            async with asyncio.timeout_at(share.started + seconds) as share.receiving:  # wait_for would make a task
                return await receive()
        except TimeoutError as error:
            if share.is_evicted:
                raise evicted() from error
            raise Refusal(
                408,
                "slow_body",
                f"The body came too slowly: {self._limits.body_seconds:.0f} seconds, and one more for every "
                f"{self._limits.least_rate:,} bytes, are what it may take.",
            ) from error
        finally:
            share.receiving = None


def _as_receive(body: AsyncIterator[Message], receive: Receive) -> Receive:
    async def next_message() -> Message:
        try:
            return await anext(body)
        except StopAsyncIteration:  # what comes now is the disconnect, for which there is no hurry
            return await receive()

    return next_message


def check_page(headers: Headers, hosts: frozenset[str] | None) -> None:
    """Refuse what the script of another page sends. Raises Refusal.

    A browser says where a script comes from in Origin and, where it is sure, in Sec-Fetch-Site; other clients send
    neither. `hosts` are the names by which browsers may know this server, None for all: a name of somebody else's that
    was made to point here is not among them.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is None and site in (None, "none"):
        return
    own = {headers.get("host"), headers.get("x-forwarded-host")} - {None}
    is_own = site == "same-origin" if site is not None else urlsplit(origin or "").netloc in own
    if is_own and (hosts is None or _name(headers.get("host", "")) in hosts):
        return
    raise Refusal(
        403, "foreign_page", "A page of another site may not ask this server; open its own page, /ui, instead."
    )


def _name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


def hosts_of(address: str, names: tuple[str, ...]) -> frozenset[str] | None:
    """The names by which browsers may know a server that listens on `address`, besides those that were given."""
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = address == "localhost"
    if not is_loopback and not names:
        return None
    return frozenset({"localhost", "127.0.0.1", "::1", address, *names})
