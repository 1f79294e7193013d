"""Limits of HTTP and gRPC requests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HttpLimits:
    """Limits of one request and of all that are being received."""

    body_bytes: int = 32 * 1024 * 1024
    bodies_bytes: int = 256 * 1024 * 1024  # of all requests that are being received or answered
    header_bytes: int = 64 * 1024
    header_seconds: float = 10.0
    body_seconds: float = 30.0
