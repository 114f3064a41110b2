"""Any failure as one line for a person, and the exit code that goes with it."""

from __future__ import annotations

import errno
import os
import time
import traceback

from trireme.errors import TriremeError
from trireme.files import home


def describe(error: BaseException) -> tuple[str, int]:
    """What went wrong and what to do next, in one line; the exit code."""
    if isinstance(error, TriremeError):
        return str(error), error.exit_code
    message = getattr(error, "format_message", None)  # what typer raises for a wrong option or argument
    if callable(message):
        return str(message()), int(getattr(error, "exit_code", 2))
    if isinstance(error, MemoryError):
        return "out of memory; free some, or lower batch_size= and workers=", 1
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full ({error.filename or home()}); free some space and run again", 1
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.strerror}: {error.filename}; choose another place with out= or $TRIREME_HOME", 1
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({_keep_traceback(error)})", 1


def _keep_traceback(error: BaseException) -> str:
    path = home() / "errors" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)) + "\n")
    except OSError:
        return "run again with --debug to see where"
    return f"this is a bug; where it happened is in {path}"
