"""Errors a user can cause, and how a step reports them: one sentence, no traceback."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Kubernetes shows what a container wrote here as the reason of its end; the local runner names a file of its own.
TERMINATION_LOG_VARIABLE = "TERMINATION_LOG"
DEFAULT_TERMINATION_LOG = "/dev/termination-log"


class UserError(Exception):
    """Something the user can put right. The message is one sentence: what was wrong, and what to do."""


@contextmanager
def reported() -> Iterator[None]:
    """Turn a UserError (or a disk or a file that may not be used so) in the block into one sentence and status 1.

    The sentence also goes to the termination log, so that whoever started the step can show it.
    """
    try:
        yield
    except UserError as error:
        _end_with(str(error))
    except PermissionError as error:
        if error.filename is None:
            raise
        _end_with(f"User {os.getuid()} may not use {error.filename}; change its permissions, or run as its owner.")
    except OSError as error:
        if error.errno == errno.EROFS:
            _end_with(f"{error.filename or 'The disk'} can only be read; make it writable, or name another folder.")
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        _end_with(f"The disk is full{where}. Free some space and run again; nothing half-written is kept.")


def _end_with(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    log = Path(os.environ.get(TERMINATION_LOG_VARIABLE, DEFAULT_TERMINATION_LOG))
    with suppress(OSError):  # outside Kubernetes the default file cannot be written
        log.write_text(sentence)
    raise SystemExit(1)
