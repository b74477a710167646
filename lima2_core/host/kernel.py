"""What only the running kernel tells: rings and channels of a card, addresses of interfaces."""

from __future__ import annotations

import array
import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SIOCGIFCONF: Final = 0x8912
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GRINGPARAM: Final = 0x10
_ETHTOOL_GCHANNELS: Final = 0x3C
_NAME_BYTES: Final = 15
_IFCONF = struct.Struct("@iP")
_IFREQ = struct.Struct("@16sP")
# struct ifreq of 64-bit Linux: the name, then a sockaddr_in, then padding.
_ENTRY = struct.Struct("=16s4x4s16x")
# Both answers of ethtool: the command, then eight numbers.
_NUMBERS = struct.Struct("=9I")


@dataclass(frozen=True, slots=True)
class Rings:
    """Places for packets between card and kernel, in each receive queue."""

    now: int
    most: int


class Kernel:
    """Asks the running kernel; nothing of it needs a privilege.

    Tests put another one in its place.
    """

    def rings(self, interface: str) -> Rings:
        """The receive rings of a card.

        Raises:
            OSError: there is no such interface, or its driver does not tell.
        """
        _, most, _, _, _, now, *_ = self._ethtool(interface, _ETHTOOL_GRINGPARAM)
        return Rings(now, most)

    def most_queues(self, interface: str) -> int:
        """How many receive queues a card can have.

        Raises:
            OSError: there is no such interface, or its driver does not tell.
        """
        _, receiving, _, _, combined, *_ = self._ethtool(interface, _ETHTOOL_GCHANNELS)
        return max(receiving, combined)

    def addresses(self) -> Mapping[str, str]:
        """The interface of each IPv4 address, also of second ones.

        Raises:
            OSError: the kernel does not tell.
        """
        entries = 64
        with _probe() as probe:
            while True:
                room = array.array("B", bytes(entries * _ENTRY.size))
                asked = _IFCONF.pack(len(room), room.buffer_info()[0])
                used, _ = _IFCONF.unpack(fcntl.ioctl(probe, _SIOCGIFCONF, asked))
                if used < len(room):
                    break
                entries *= 2
        found = _ENTRY.iter_unpack(room[: used - used % _ENTRY.size].tobytes())
        # A second address may have a label of its own, eth2:1.
        return {
            socket.inet_ntoa(address): os.fsdecode(name.rstrip(b"\0")).partition(":")[0]
            for name, address in found
        }

    def _ethtool(self, interface: str, command: int) -> tuple[int, ...]:
        name = os.fsencode(interface)
        if len(name) > _NAME_BYTES:
            raise OSError(errno.ENODEV, f"no interface has the name {interface}")
        numbers = array.array("B", _NUMBERS.pack(command, *(0,) * 8))
        with _probe() as probe:
            fcntl.ioctl(probe, _SIOCETHTOOL, _IFREQ.pack(name, numbers.buffer_info()[0]))
        return _NUMBERS.unpack(numbers.tobytes())


class NoKernel(Kernel):
    """For trees of another computer: nothing can be asked."""

    def addresses(self) -> Mapping[str, str]:
        raise OSError(errno.EOPNOTSUPP, "only the running kernel knows its addresses")

    def _ethtool(self, interface: str, command: int) -> tuple[int, ...]:
        raise OSError(errno.EOPNOTSUPP, f"only the running kernel knows the card {interface}")


def interface_of(address: str, kernel: Kernel | None = None) -> str | None:
    """The interface that has an IPv4 address; None if none of this computer has.

    Raises:
        ValueError: it is no IPv4 address.
        OSError: the kernel does not tell.
    """
    wanted = ipaddress.IPv4Address(address)
    if wanted.is_loopback:  # all of 127.0.0.0/8, though only the first is listed
        return "lo"
    return (kernel or Kernel()).addresses().get(str(wanted))


def _probe() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
