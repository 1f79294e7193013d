"""This machine as seen from itself: ports that nobody listens on, and how to ask those that somebody does."""

import os
import socket
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"
_THIS_MACHINE = ("localhost", LOOPBACK, "::1")


def ask_loopback_directly() -> None:
    """Let every HTTP client of this process, and of those that it starts, ask this machine without a proxy.

    Some read one spelling of the variable and some the other, and a proxy elsewhere cannot reach what listens here.
    """
    given = [name.strip() for variable in ("no_proxy", "NO_PROXY") for name in os.environ.get(variable, "").split(",")]
    hosts = ",".join(dict.fromkeys([*filter(None, given), *_THIS_MACHINE]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = hosts


def free_ports(count: int) -> list[int]:
    """Different ports that are free now. They are held together, so that no two are the same."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def free_port() -> int:
    """One such port."""
    return free_ports(1)[0]
