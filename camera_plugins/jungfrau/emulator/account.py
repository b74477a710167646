"""What an emulator did, exactly: the truth that a receiver's counters are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera_plugins.jungfrau.faults import FaultKind


@dataclass(slots=True)
class LineAccount:
    """Of one port of one module towards one destination."""

    module: int
    port: int
    entry: int
    """Of the destination list."""
    packets: int
    """Of a frame."""
    sent: int = 0
    """Datagrams, of whatever kind."""
    refused: int = 0
    """System calls that failed because nobody listened; they were repeated."""
    faults: dict[FaultKind, int] = field(default_factory=dict)
    late: int = 0
    """Delayed packets that came after the first one of the frame after the next."""
    masks: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    """By frame number: the packets that were sent whole and in time. Shapes: (packets,)."""
    whole: int = 0
    """Complete frames of which no mask is kept."""

    @property
    def in_time(self) -> int:
        """Packets that belong into the frames."""
        masks = sum(int(np.count_nonzero(mask)) for mask in self.masks.values())
        return masks + self.whole * self.packets

    @property
    def missing(self) -> int:
        """Packets that the frames lack."""
        return (len(self.masks) + self.whole) * self.packets - self.in_time

    def count(self, kind: FaultKind) -> int:
        return self.faults.get(kind, 0)

    def note(self, kind: FaultKind) -> None:
        self.faults[kind] = self.count(kind) + 1

    def to_json(self) -> dict[str, Any]:
        """Plain values; masks as hexadecimal digits, packet 0 in the lowest bit of the first."""
        incomplete = {number: mask for number, mask in self.masks.items() if not mask.all()}
        return {
            "module": self.module,
            "port": self.port,
            "entry": self.entry,
            "packets": self.packets,
            "frames": len(self.masks) + self.whole,
            "sent": self.sent,
            "refused": self.refused,
            "in_time": self.in_time,
            "missing": self.missing,
            "late": self.late,
            "faults": {kind.value: count for kind, count in self.faults.items()},
            "incomplete": {
                str(number): np.packbits(mask, bitorder="little").tobytes().hex()
                for number, mask in incomplete.items()
            },
        }


@dataclass(slots=True)
class Account:
    """Of a whole acquisition."""

    lines: list[LineAccount]
    frames: int = 0
    """Begun, on all destinations together."""
    seconds: float = 0.0
    behind: int = 0
    """Frames that began late because the one before took too long."""

    def line(self, module: int = 0, port: int = 0, entry: int = 0) -> LineAccount:
        """The account of one port towards one destination."""
        for line in self.lines:
            if (line.module, line.port, line.entry) == (module, port, entry):
                return line
        raise KeyError(f"there is no port {port} of module {module} to destination {entry}")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "frames": self.frames,
            "seconds": self.seconds,
            "behind": self.behind,
            "lines": [line.to_json() for line in self.lines],
        }
