"""Memory that is free goes back to the system: glibc keeps what was freed in pieces until it is told to."""

import ctypes
import ctypes.util
import os
from functools import cache
from pathlib import Path


@cache
def _library() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    return library if hasattr(library, "malloc_trim") else None  # glibc's only


def give_back() -> None:
    """Give freed memory back. Milliseconds, in which other threads run."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)


def resident() -> int:
    """Bytes of this process that lie in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
