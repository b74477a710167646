"""UDP sockets that receive a detector: bound, with the buffer asked for or what was granted."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Final

from lima2_core.errors import CameraError

MESSAGE_BYTES: Final = 65536
"""The longest message between a port and its listener."""

_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55  # Linux 4.12
_MEMINFO = struct.Struct("=9I")
_DROPS: Final = 8


def open_socket(address: str, port: int, buffer_bytes: int) -> socket.socket:
    """Bind a UDP socket; ``port`` 0 takes a free one.

    Raises:
        CameraError: the address is not of this machine, or the port is in use.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.bind((address, port))
    except OSError as error:
        made.close()
        raise CameraError(
            f"cannot receive on {address}:{port}: {error.strerror or error}; choose an address of "
            "this machine and a port that nobody uses",
            address=address,
            port=port,
        ) from error
    # The limit net.core.rmem_max holds for the first call; the second one needs a privilege.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    if granted_bytes(made) < 2 * buffer_bytes:
        with contextlib.suppress(PermissionError):
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes)
    return made


def granted_bytes(receiving: socket.socket) -> int:
    """The size of the socket buffer as the kernel counts it: twice what it was asked for."""
    return receiving.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def drops(receiving: socket.socket) -> int:
    """Datagrams that the kernel has dropped at this socket, modulo 2**32."""
    raw = receiving.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    if len(raw) < _MEMINFO.size:
        return 0
    return int(_MEMINFO.unpack(raw)[_DROPS])
