"""Space on a disk that is kept until it is needed."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import weakref
from pathlib import Path

log = logging.getLogger(__name__)

_MAX_BYTES = 2**24
_MAX_SHARE = 8
"""At most one part in so many of what is free."""


class Reserve:
    """A file without a name: its space is free again when it is released, or nobody has it.

    Where the disk is full already, or its file system cannot do this, nothing is kept.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self._release: weakref.finalize[[int], Reserve] | None = None
        try:
            size_bytes = min(size_bytes, _MAX_BYTES, shutil.disk_usage(folder).free // _MAX_SHARE)
            descriptor, name = tempfile.mkstemp(prefix=".lima2-", suffix=".reserve", dir=folder)
            self._release = weakref.finalize(self, os.close, descriptor)
            os.unlink(name)
            os.posix_fallocate(descriptor, 0, max(1, size_bytes))
        except OSError as error:
            log.debug("No space is kept in %s: %s", folder, error)

    def release(self) -> None:
        """Give the space back."""
        if self._release is not None:
            self._release()
