"""How this process behaves while it trains: what SIGTERM does, and what becomes of freed memory."""

import ctypes
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# malloc.h of glibc: parameters, and the values that it begins with
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_TRIM_THRESHOLD, _MMAP_MAX = 128 * 1024, 65_536
_NEVER = 2**31 - 1
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


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within the block the C library keeps what is freed, instead of giving it back and asking for it anew.

    The activations of a step are hundreds of megabytes, and their page faults cost 4 to 10 % of its time on a CPU. At
    the end everything is given back. Does nothing where the library is not glibc.
    """
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        library.mallopt(_M_MMAP_MAX, _MMAP_MAX)
        library.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
        library.malloc_trim(0)
