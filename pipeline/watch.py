"""Nothing outlives its run: a process that waits for the run's end and puts an end to what it started.

A run that is killed can do that no more. It holds one end of a pipe, which the system closes with it, and everything
it starts carries a mark in its environment, however deep below it.
"""

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

MARK = "BIN_COUNTER_RUN"
GRACE_SECONDS = 2.0  # from asking to killing


@contextmanager
def watched() -> Iterator[None]:
    """Mark what is started in the block, and have it ended even when this process is killed in it."""
    mark = os.environ[MARK] = uuid.uuid4().hex
    # A session of its own: neither Ctrl-C nor the end of the terminal reaches it.
    watch = subprocess.Popen([sys.executable, "-P", __file__, mark], stdin=subprocess.PIPE, start_new_session=True)
    assert watch.stdin is not None
    try:
        yield
    finally:
        watch.stdin.close()
        watch.wait()
        del os.environ[MARK]


def end_marked(mark: str) -> None:
    """End every process that carries the mark, apart from this one."""
    end_processes([process for process in psutil.process_iter() if _carries(process, mark)], GRACE_SECONDS)


def end_processes(processes: Sequence[psutil.Process], grace_seconds: float) -> None:
    """Ask processes to end, and kill those that are still there after `grace_seconds`."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(processes, timeout=grace_seconds)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == mark
    except psutil.Error:  # gone meanwhile, or another user's
        return False


if __name__ == "__main__":
    sys.stdin.read()
    end_marked(sys.argv[1])
