"""Two proxies to put in front of the local store: one adds latency, one injects faults.

They stand in for a far store and for a bad day of it; everything behind them is the real store.
"""

import asyncio
import contextlib
import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

HOST = "127.0.0.1"
ERROR = '<?xml version="1.0"?><Error><Code>{0}</Code><Message>{0}</Message></Error>'
SESSION = web.AppKey("session", aiohttp.ClientSession)
_BODY_HEADERS = ("Content-Type", "ETag", "Last-Modified", "x-amz-request-id")


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Delayed(asyncio.Protocol):
    """Passes bytes of a client on after a while, and the answer's bytes back at once."""

    def __init__(self, upstream: tuple[str, int], seconds: float) -> None:
        self.upstream = upstream
        self.seconds = seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.client = transport
        self.server: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: _Back(self.client), *self.upstream)
        self.server.set_result(transport)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self.seconds, self._pass_on, data)

    def _pass_on(self, data: bytes) -> None:
        self.server.add_done_callback(lambda server: server.result().write(data))

    def connection_lost(self, _: Exception | None) -> None:
        self.server.add_done_callback(lambda server: server.result().close())


class _Back(asyncio.Protocol):
    def __init__(self, client: asyncio.Transport) -> None:
        self.client = client

    def data_received(self, data: bytes) -> None:
        self.client.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.client.close()


@contextmanager
def latency_proxy(endpoint: str, seconds: float) -> Iterator[str]:
    """Endpoint of a proxy in front of `endpoint` that delays every request by so much."""
    parts = urlsplit(endpoint)
    upstream = (str(parts.hostname), int(parts.port or 80))
    with running_loop() as loop:

        async def serve() -> asyncio.Server:
            return await loop.create_server(lambda: _Delayed(upstream, seconds), HOST, 0)

        server = asyncio.run_coroutine_threadsafe(serve(), loop).result()
        try:
            yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        finally:
            loop.call_soon_threadsafe(server.close)


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong; shares of the requests. A request meets one fault at most."""

    server_errors: float = 0.0  # half of them 500, half 503 SlowDown
    resets: float = 0.0  # half of them before the request reaches the store, half after
    cut_short: float = 0.0  # half of them with the length of the whole body, half with that of what is sent
    wrong_bytes: float = 0.0  # of objects; a listing has no checksum that would tell
    missing: float = 0.0  # 404 for an object that is there
    stalls: float = 0.0
    expired_after: int | None = None  # requests; from then on the credentials have expired

    def kinds(self) -> list[tuple[str, float]]:
        """Names and shares, in the order in which they are drawn."""
        names = ("server_errors", "resets", "cut_short", "wrong_bytes", "missing", "stalls")
        return [(name, getattr(self, name)) for name in names]


@dataclass
class FaultProxy:
    """A running proxy. What befalls a request depends on the seed, its target, and how often that was asked for."""

    upstream: str
    faults: Faults
    seed: int
    endpoint: str = ""
    requests: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    _asked: Counter[str] = field(default_factory=Counter)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request: with a fault, or with what the store says."""
        self.requests += 1
        expired = self.faults.expired_after
        if expired is not None and self.requests > expired:
            self.injected["expired"] += 1
            return web.Response(status=400, text=ERROR.format("ExpiredToken"), content_type="application/xml")
        kind, draw = self._draw(request)
        if kind:
            self.injected[kind] += 1
        if kind == "server_errors":
            status, code = (500, "InternalError") if draw < 0.5 else (503, "SlowDown")
            return web.Response(status=status, text=ERROR.format(code), content_type="application/xml")
        if kind == "missing":
            return web.Response(status=404, text=ERROR.format("NoSuchKey"), content_type="application/xml")
        if kind == "stalls":
            await asyncio.sleep(3600)
        if kind == "resets" and draw < 0.5:
            return _reset(request)
        try:
            status, headers, body = await self._ask(request)
        except aiohttp.ClientError:
            return _reset(request)
        if kind == "resets":
            return _reset(request)
        if kind == "wrong_bytes" and status == 200 and body:
            place = int(draw * len(body))
            body = body[:place] + bytes([body[place] ^ 0xFF]) + body[place + 1 :]
        if kind == "cut_short" and len(body) > 1:
            return await _cut(request, status, headers, body, honest=draw < 0.5)
        return web.Response(status=status, headers=headers, body=body)

    def _draw(self, request: web.Request) -> tuple[str, float]:
        target = f"{request.method} {request.raw_path}"
        self._asked[target] += 1
        name = f"{self.seed} {target} {self._asked[target]}".encode()
        digest = hashlib.sha256(name).digest()
        draw, detail = (int.from_bytes(part) / 2**64 for part in (digest[:8], digest[8:16]))
        of_object = request.method == "GET" and "list-type" not in request.query
        for kind, share in self.faults.kinds():
            if kind in ("wrong_bytes", "missing") and not of_object:
                continue
            if kind == "cut_short" and request.method != "GET":
                continue
            if draw < share:
                return kind, detail
            draw -= share
        return "", detail

    async def _ask(self, request: web.Request) -> tuple[int, dict[str, str], bytes]:
        body = await request.read()
        url = URL(self.upstream + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name != "Transfer-Encoding"}
        session = request.app[SESSION]
        async with session.request(
            request.method, url, headers=headers, data=body, skip_auto_headers=["User-Agent"]
        ) as answer:
            kept = {name: answer.headers[name] for name in _BODY_HEADERS if name in answer.headers}
            if request.method == "HEAD":
                kept["Content-Length"] = answer.headers["Content-Length"]
            return answer.status, kept, await answer.read()


def _reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _cut(
    request: web.Request, status: int, headers: dict[str, str], body: bytes, honest: bool
) -> web.StreamResponse:
    half = body[: len(body) // 2]
    if honest:
        return web.Response(status=status, headers=headers, body=half)
    answer = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(body))})
    await answer.prepare(request)
    await answer.write(half)
    return _reset(request)


@contextmanager
def fault_proxy(endpoint: str, faults: Faults, seed: int = 0) -> Iterator[FaultProxy]:
    """A proxy in front of `endpoint` that injects faults; its own endpoint is `.endpoint`."""
    proxy = FaultProxy(endpoint, faults, seed)
    with running_loop() as loop:
        runner = asyncio.run_coroutine_threadsafe(_serve(proxy), loop).result()
        try:
            yield proxy
        finally:
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(_stop(runner), loop).result(5)


async def _serve(proxy: FaultProxy) -> web.AppRunner:
    app = web.Application(client_max_size=1 << 30)
    app[SESSION] = aiohttp.ClientSession(auto_decompress=False)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    (_, port), *_ = runner.addresses
    proxy.endpoint = f"http://{HOST}:{port}"
    return runner


async def _stop(runner: web.AppRunner) -> None:
    await runner.app[SESSION].close()
    await runner.cleanup()
