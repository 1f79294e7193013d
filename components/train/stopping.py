"""SIGTERM, as a spot node sends it before it goes away."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED_BY_SIGNAL = 143  # 128 + SIGTERM, as a shell says it


class Interrupted(SystemExit):
    """SIGTERM came; the checkpoint is written."""


@contextmanager
def on_sigterm(react: Callable[[], None]) -> Iterator[None]:
    """Within the block SIGTERM calls `react` instead of ending the process. Outside the main thread nothing changes."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        react()

    try:
        before = signal.signal(signal.SIGTERM, handle)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
