"""Memory that is free goes back to the system: glibc keeps what was freed in pieces until it is told to.

mallopt(3), malloc_trim(3).
"""

import ctypes
import ctypes.util
import os
from functools import cache
from pathlib import Path

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1024 * 1024  # more than the pixels of a usual photo, which come and go hundreds of times a second


@cache
def _library() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    return library if hasattr(library, "malloc_trim") else None  # glibc's only


def keep_little() -> None:
    """Let every large buffer be a mapping of its own, which goes back when it is freed.

    glibc would learn from the first large buffer to take the next ones from the heap, where what is small and lasts
    comes to lie between them.
    """
    library = _library()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_back() -> None:
    """Give freed memory back. Milliseconds, in which other threads run."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)


def resident() -> int:
    """Bytes of this process that lie in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
