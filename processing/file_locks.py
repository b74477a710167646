"""Whether somebody writes to a file: HDF5 holds a lock on it as long as it does."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterable
from pathlib import Path

_HELD = (errno.EAGAIN, errno.EACCES)


def is_complete(path: Path) -> bool:
    """Whether a file is there and nobody writes to it: only then others can open it."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        # A file system without locks keeps nobody out.
        return error.errno not in _HELD
    return True


def being_written(paths: Iterable[Path]) -> Path | None:
    """The first of some files that is there, and that somebody writes to."""
    return next((path for path in paths if path.exists() and not is_complete(path)), None)
