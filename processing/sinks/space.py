"""Space on a disk that is kept for what has to be written later."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_STEP_BYTES = 2**18
"""Taken at once beyond what is needed, if it is there."""


class Space:
    """A file without a name: its space is free again when it is given back, or nobody has it.

    Who is to write something holds space for it before, and gives it back right when it is
    written. So a disk that is full shows while there is still space to end well. Where the file
    system cannot do this, nothing is held.

    Raises:
        OSError: the disk is full, or no file can be made in ``folder``.
    """

    def __init__(self, folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".lima2-", suffix=".reserve", dir=folder)
        self._descriptor = descriptor
        self._give_back = weakref.finalize(self, os.close, descriptor)
        os.unlink(name)
        self.nbytes = 0

    def hold(self, nbytes: int) -> None:
        """Have at least so much."""
        if nbytes <= self.nbytes:
            return
        try:
            self._grow(nbytes + _STEP_BYTES)
        except OSError:
            self._grow(nbytes)

    def shrink(self, nbytes: int) -> None:
        """Have no more than so much."""
        if nbytes < self.nbytes:
            os.ftruncate(self._descriptor, nbytes)
            self.nbytes = nbytes

    def give_back(self) -> None:
        """Have none, and never again."""
        self.nbytes = 0
        self._give_back()

    def _grow(self, nbytes: int) -> None:
        try:
            os.posix_fallocate(self._descriptor, self.nbytes, nbytes - self.nbytes)
        except OSError as error:
            os.ftruncate(self._descriptor, self.nbytes)  # what it got of that
            if error.errno in _FULL:
                raise
        self.nbytes = nbytes
