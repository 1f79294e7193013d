"""KServe's model server with the parts that it lacks: loopback by default, limits, a drain that loses nothing."""

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import nullcontext
from typing import Any

import uvicorn

from components.core.errors import UserError
from components.serve.grpc_service import GrpcServer, Servicer
from components.serve.guard import Guard, hosts_of
from components.serve.http import Routes
from components.serve.kserve_lean import ModelServer, RESTServer, _RefreshingServer
from components.serve.limits import END_SECONDS, FINISH_SECONDS, LINGER_SECONDS, Memory, RequestLimits
from components.serve.logs import escape_control_characters
from components.serve.memory import give_back, keep_little, resident
from components.serve.model import BinCounter, Models
from components.serve.options import ServeOptions
from components.serve.protocol import protocol_with_limits

_TRIM_SECONDS = 1.0  # how often memory is looked at, and given back when it grew by so much
_TRIM_BYTES = 64 * 1024 * 1024
_TRIM_PAUSE = 10.0  # after looking in vain


class CountingServer(ModelServer):
    """kserve.ModelServer for one bundle."""

    def __init__(self, options: ServeOptions, model: BinCounter) -> None:
        escape_control_characters()
        keep_little()
        self._model = model
        self._models = Models(model)
        self._memory = Memory(options.limits)
        self._trim_pause = 0.0
        super().__init__(
            http_port=options.http_port,
            grpc_port=options.grpc_port,
            enable_grpc=options.enable_grpc,
            enable_latency_logging=False,
            registered_models=self._models,
        )
        self._options = options
        self._stopping: asyncio.Event | None = None

    @property
    def is_draining(self) -> bool:
        """True from the moment the server was asked to stop."""
        return self._stopping is not None and self._stopping.is_set()

    def serve(self, http_socket: socket.socket) -> None:
        """Serve the model, which is ready, on a socket that is bound, until SIGTERM or SIGINT."""
        rest = _Rest(self, http_socket)
        with asyncio.Runner(loop_factory=rest.config.get_loop_factory()) as runner:
            runner.run(self._run(rest))
            # What is left are threads of libraries, and those that are busy in a decoder; nothing waits for them.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    async def _run(self, rest: "_Rest") -> None:
        self._stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        trimming = asyncio.create_task(self._give_memory_back())
        serving = [asyncio.create_task(rest.start())]
        grpc_server = None
        if self.enable_grpc:
            servicer = Servicer(
                self.dataplane, self.model_repository_extension, self._models, self, self._options.max_photos
            )
            address = f"{_bracketed(self._options.host)}:{self.grpc_port}"
            grpc_server = GrpcServer(servicer, address, self.limits, self._memory)
            serving.append(asyncio.create_task(grpc_server.start()))
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([*serving, stop], return_when=asyncio.FIRST_COMPLETED)
        await rest.drain()
        if grpc_server is not None:
            await grpc_server.stop(FINISH_SECONDS)
        stop.cancel()
        trimming.cancel()
        await asyncio.gather(*serving)
        await asyncio.to_thread(self._model.end, END_SECONDS)

    async def _give_memory_back(self) -> None:
        """Of what requests took, however they took it: decoders and the gRPC library tell nobody."""
        usual, last = resident(), 0.0
        while True:
            await asyncio.sleep(_TRIM_SECONDS)
            now = time.monotonic()
            usual = min(usual, resident())
            if resident() > usual + _TRIM_BYTES and now > last + self._trim_pause:
                before = resident()
                await asyncio.to_thread(give_back)
                # In use, and not kept by the C library: asked again later.
                self._trim_pause = 0.0 if resident() < before - _TRIM_BYTES // 4 else _TRIM_PAUSE
                last = now

    @property
    def memory(self) -> Memory:
        """What requests hold."""
        return self._memory

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names by which browsers may know the server."""
        return hosts_of(self._options.host, self._options.hosts)

    @property
    def limits(self) -> RequestLimits:
        """Limits of requests."""
        return self._options.limits

    def routes(self) -> Routes:
        """The routes that take the place of KServe's own."""
        return Routes(self._models, self, self._options.max_photos, self.limits)


class _QuietServer(_RefreshingServer):
    """Uvicorn's server that leaves signals to us."""

    def capture_signals(self) -> Any:
        return nullcontext()


class _Rest(RESTServer):
    """KServe's REST server on a socket of ours, with our routes in front and the guard around."""

    def __init__(self, owner: CountingServer, http_socket: socket.socket) -> None:
        super().__init__(
            "kserve.model_server:app",
            owner.dataplane,
            owner.model_repository_extension,
            owner.http_port,
            timeout_keep_alive=owner.timeout_keep_alive,
            ssl_certfile=owner.ssl_certfile,
            ssl_keyfile=owner.ssl_keyfile,
        )
        self.config: uvicorn.Config = self.config
        self._owner = owner
        self._socket = http_socket
        self._guard: Guard | None = None

    def create_application(self) -> None:
        """Build the application. KServe's own middleware is left out: it logs every request."""
        import kserve.model_server

        app = kserve.model_server.app
        app.title = "bin-counter"
        self._owner.routes().install(app, self.dataplane)
        self._guard = Guard(app, self._owner.limits, self._owner.memory, self._owner.hosts)
        self.config = uvicorn.Config(
            self._guard,
            log_config=None,
            access_log=False,
            http=protocol_with_limits(self._owner.limits),
            ws="none",
            lifespan="off",
            server_header=False,
            timeout_keep_alive=self.config.timeout_keep_alive,
            timeout_graceful_shutdown=int(FINISH_SECONDS),
            ssl_certfile=self.config.ssl_certfile,
            ssl_keyfile=self.config.ssl_keyfile,
        )
        self._server = _QuietServer(self.config)

    async def start(self) -> None:
        """Serve until `drain`."""
        self.create_application()
        await self._server.serve(sockets=[self._socket])

    async def drain(self) -> None:
        """Let clients finish: no request that came before the end of the linger time is lost."""
        if self._guard is not None:
            self._guard.draining = True
        await asyncio.sleep(LINGER_SECONDS)
        self._server.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """Bind a port, before anything else is done. Raises UserError when it is taken or not allowed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(
            f"The server cannot listen on {_bracketed(host)}:{port} ({getattr(error, 'strerror', None) or error}); "
            "stop what uses the port, or give another one."
        ) from error
    return listener


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
