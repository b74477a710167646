"""How a port listens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortOptions:
    """What a port asks of the system, and how long it waits."""

    buffer_bytes: int = 64 * 2**20
    """Socket buffer to ask for; what is granted is in the statistics."""
    priority: int = 0
    """Of SCHED_FIFO, 1 to 99; 0 for normal scheduling."""
    cpus: tuple[int, ...] = ()
    """Cores for the listener; all if empty."""
    frame_timeout_s: float = 0.2
    """An incomplete frame is closed when nothing came for so long."""
    drain_s: float = 0.02
    """An acquisition that is stopped ends when nothing came for so long."""
