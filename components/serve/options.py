"""The command line of the server. Flags that KServe's own server has keep its names."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from components.core.layout import MODEL_NAME
from components.core.runtime import RUNTIMES
from components.serve.engine import EngineOptions
from components.serve.limits import RequestLimits

MOUNTED = Path("/mnt/models")  # where KServe puts a model


@dataclass(frozen=True)
class ServeOptions:
    """What the server was asked for."""

    model_dir: Path
    model_name: str
    host: str
    hosts: tuple[str, ...]
    http_port: int
    grpc_port: int
    enable_grpc: bool
    max_photos: int
    limits: RequestLimits
    engine: EngineOptions


def parse(arguments: list[str] | None = None) -> ServeOptions:
    """Parse the command line; a wrong one ends the process with a usage message."""
    default, limits = EngineOptions(), RequestLimits()
    parser = argparse.ArgumentParser(
        prog="python -m components.serve",
        description="Serves a bundle by the KServe protocols V1 and V2, over HTTP and gRPC.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model_dir", type=Path, default=MOUNTED, help="folder of the bundle that train wrote")
    add("--model_name", default=MODEL_NAME, help="name in the endpoint's path")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for every network interface")
    add("--hosts", nargs="*", default=[], help="names by which browsers may reach this server, besides localhost")
    add("--http_port", type=_port, default=8080, help="HTTP port; 0 takes a free one")
    add("--grpc_port", type=_port, default=8081, help="gRPC port")
    add("--enable_grpc", type=_truth, default=True, help="serve gRPC too")
    add("--runtime", choices=RUNTIMES, default=default.runtime, help="what runs the model")
    add("--precision", choices=("f32", "bf16", "int8"), help="precision to run in (default: the bundle's)")
    add("--threads", type=_positive, default=default.threads, help="workers, and CPU threads for inference")
    add("--max_batch", type=_positive, default=default.max_batch, help="photos inferred together at most")
    add("--batch_wait_ms", type=float, help="how long a photo waits for company (default: 0 on a CPU, else 2)")
    add("--queue", type=_positive, default=default.queue_limit, help="photos that may wait; beyond, 503 at once")
    add("--max_photos", type=_positive, default=32, help="photos in one request at most")
    add("--max_body_mb", type=_positive, default=32, help="size of a request at most, in MB")
    add("--header_seconds", type=float, default=limits.header_seconds, help="time for a request's headers to arrive")
    add(
        "--body_seconds",
        type=float,
        default=limits.body_seconds,
        help="time for a request's body, besides a second for every 32 kB",
    )
    add("--error_rate", type=_share, help="share of records that are wrong (default: what the bundle was made with)")
    given = parser.parse_args(arguments)
    if given.max_photos > given.queue:
        parser.error("--max_photos must not exceed --queue, or the largest requests could never be taken")
    return ServeOptions(
        model_dir=given.model_dir,
        model_name=given.model_name,
        host=given.host,
        hosts=tuple(given.hosts),
        http_port=given.http_port,
        grpc_port=given.grpc_port,
        enable_grpc=given.enable_grpc,
        max_photos=given.max_photos,
        limits=RequestLimits(
            body_bytes=given.max_body_mb * 1024 * 1024,
            header_seconds=given.header_seconds,
            body_seconds=given.body_seconds,
        ),
        engine=EngineOptions(
            runtime=given.runtime,
            precision=given.precision,
            threads=given.threads,
            max_batch=given.max_batch,
            wait_seconds=None if given.batch_wait_ms is None else given.batch_wait_ms / 1000,
            queue_limit=given.queue,
            error_rate=given.error_rate,
        ),
    )


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port (0 to 65535)")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no share between 0 and 1")
    return share


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text.lower() in ("true", "1")
