"""What an acquisition asks of the computer it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

JUNGFRAU_PACKET_BYTES: Final = 48 + 8192
"""Header and pixels of one packet."""


@dataclass(frozen=True, slots=True)
class HostNeeds:
    """What is wanted; what is left out is not asked for."""

    interfaces: tuple[str, ...] = ()
    """That the detector sends to, such as ``eth2``."""
    addresses: tuple[str, ...] = ()
    """IPv4 addresses that the detector sends to; their interfaces are found out."""
    receive_buffer_bytes: int = 64 * 2**20
    """Of one socket."""
    packet_bytes: int = JUNGFRAU_PACKET_BYTES
    """Of one datagram, without the headers of IP and UDP."""
    realtime: int = 0
    """Priority of SCHED_FIFO that the listeners ask for, 1 to 99; 0 for none."""
    cpus: tuple[int, ...] = ()
    """Cores of the listeners."""
    locked_bytes: int = 0
    """Memory that may not be paged out."""
    huge_bytes: int = 0
    """Memory in reserved huge pages; frame buffers take none."""
    shared_bytes: int = 256 * 2**20
    """Files in /dev/shm: MPI and other programs; frame buffers are not files."""
    folders: tuple[str, ...] = ()
    """That frames are saved in."""
    free_bytes: int = 0
    """Space in each of them."""
    write_bytes_s: float = 0.0
    """Rate at which each of them is written to."""
