"""The counters of one port, and how they lie in shared memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of every packet and frame of one acquisition; written by the listener.

    ``accepted + late + doubled + short + foreign + out_of_range + stray + overrun`` is what the
    kernel delivered.
    """

    accepted: int = 0
    """Packets put into their frames."""
    late: int = 0
    """Came when their frame was closed."""
    doubled: int = 0
    """Had come before."""
    short: int = 0
    """Shorter than a packet."""
    foreign: int = 0
    """Of another detector or header version, or longer than a packet."""
    out_of_range: int = 0
    """With a packet number that no frame has."""
    stray: int = 0
    """With a frame number that does not belong to the acquisition."""
    overrun: int = 0
    """Of frames that found no slot; those that the kernel dropped meanwhile are apart."""
    displaced: int = 0
    """Of the accepted, those that did not come in their turn and had to be moved."""
    frames_complete: int = 0
    frames_partial: int = 0
    frames_missing: int = 0
    """Frames of which no packet was accepted, as far as they had a slot."""
    lost: int = 0
    """Packets missing in closed frames; contains the late ones."""
    kernel_overrun: int = 0
    """Packets that the kernel dropped because there was no slot."""
    stalls: int = 0
    """How often reception waited for a slot."""
    stalled_ns: int = 0
    batches: int = 0
    """System calls that brought packets."""
    idle: int = 0
    """Packets thrown away between acquisitions."""
    newest: int = 0
    """The highest frame number that was seen."""
    wanted: int = 0
    """The frame number that waits for a slot; 0 if none does."""


NAMES = tuple(field.name for field in fields(Counts))


def counts_from(values: Sequence[int]) -> Counts:
    """Snapshot of ``values``, in the order of `NAMES`."""
    return Counts(*values)


@dataclass(frozen=True, slots=True)
class PortStats:
    """A snapshot of one port."""

    name: str
    """``address:port``."""
    counts: Counts
    kernel_drops: int
    """Packets that the kernel dropped since the acquisition began, for whatever reason."""
    buffer_asked_bytes: int
    buffer_granted_bytes: int
    """As the kernel counts it, with its own overhead; about half of it is packets."""
    priority: str
    """What the listener was granted: ``normal`` or ``fifo 90``, with the reason if refused."""
    cpus: str
    """The cores that the listener may use, with the reason if its wish was refused."""
    pid: int
    """0 when there is no listener."""
    replaced: int
    """How often the listener died, or hung, in this acquisition and was replaced."""
    hung: int
    """How often of these it hung."""
    failed_before: str
    """How the listener failed between the last acquisition and this one; empty if it did not."""
