"""Many datagrams in one system call: ``recvmmsg`` and ``sendmmsg`` of Linux.

`Batch` holds the C structures as numpy arrays, so that a whole batch is prepared and examined
with a few array operations. The calls release the interpreter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LIBC = ctypes.CDLL(None, use_errno=True)
for _name in ("recvmmsg", "sendmmsg"):
    getattr(_LIBC, _name).restype = ctypes.c_int
_LIBC.recvmmsg.argtypes = (
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.c_void_p,
)
_LIBC.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)

IOVEC = np.dtype([("base", np.uint64), ("len", np.uint64)])
MMSGHDR = np.dtype(
    {
        # struct msghdr of 64-bit Linux, then the length of the datagram and padding.
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "len"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)

# MSG_TRUNC makes the kernel say how long a datagram was, also if it is longer than its buffers.
_RECEIVE_FLAGS = socket.MSG_DONTWAIT | socket.MSG_TRUNC
_WAIT_FLAGS = 0x10000 | socket.MSG_TRUNC  # MSG_WAITFORONE: wait for the first one only
_NOTHING_THERE = (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED)


class Batch:
    """Room for ``size`` messages of ``pieces`` buffers each.

    Shapes: ``base`` (size, pieces) uint64, the addresses of the buffers; ``length`` (size, pieces)
    uint64; ``used`` (size,) uint64, how many of the pieces each message has; ``received`` (size,)
    uint32, the length of each datagram.
    """

    def __init__(self, size: int, pieces: int) -> None:
        self.size = size
        self.pieces = pieces
        self._iov: NDArray[Any] = np.zeros((size, pieces), IOVEC)
        self._messages: NDArray[Any] = np.zeros(size, MMSGHDR)
        first = self._iov.ctypes.data
        self._messages["iov"] = first + np.arange(size, dtype=np.uint64) * (pieces * IOVEC.itemsize)
        self._address = self._messages.ctypes.data
        self.base: NDArray[np.uint64] = self._iov["base"]
        self.length: NDArray[np.uint64] = self._iov["len"]
        self.used: NDArray[np.uint64] = self._messages["iovlen"]
        self.received: NDArray[np.uint32] = self._messages["len"]
        self.used[:] = pieces

    def receive(self, fd: int, first: int, end: int, *, wait: bool = False) -> int:
        """Receive into the messages from ``first`` up to ``end``, as many as are there.

        Args:
            fd: of the socket.
            first: the first message.
            end: the one behind the last.
            wait: for one, if there is none.

        Returns:
            How many; 0 if there was none.
        """
        at = self._address + first * MMSGHDR.itemsize
        flags = _WAIT_FLAGS if wait else _RECEIVE_FLAGS
        count: int = _LIBC.recvmmsg(fd, at, end - first, flags, None)
        if count < 0:
            _raise_unless(_NOTHING_THERE)
            return 0
        return count

    def send(self, fd: int, first: int, end: int) -> int:
        """Send the messages from ``first`` up to ``end``; waits for room in the socket.

        Returns:
            How many were sent; 0 if the system asks to try again.
        """
        at = self._address + first * MMSGHDR.itemsize
        count: int = _LIBC.sendmmsg(fd, at, end - first, 0)
        if count < 0:
            _raise_unless((*_NOTHING_THERE, errno.ENOBUFS))
            return 0
        return count


def _raise_unless(usual: tuple[int, ...]) -> None:
    number = ctypes.get_errno()
    if number not in usual:
        raise OSError(number, os.strerror(number))
