"""How far a run is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from typing import Self

from client.errors import DecodeError


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot. Counts are frames of the detector, but for ``processed`` and ``saved``."""

    expected: int | None = None
    """None: until it is stopped."""
    exposed: int = 0
    received: int = 0
    processed: int = 0
    saved: int = 0
    lost: int = 0
    settled: int = 0
    """Frames of which it is known what became of them, without those that were never sent."""
    rate_hz: float = 0.0
    """Frames per second that the receivers take."""
    rate_bytes_s: float = 0.0
    mean_rate_hz: float = 0.0
    """From the start to the last frame."""
    queue_percent: float = 0.0
    """Of the fullest queue of all receivers."""
    memory_percent: float = 0.0
    """Of the receiver that has least left."""
    time_to_overrun_s: float = math.inf
    """When the first queue will be full if it goes on like this."""
    percent: float = 0.0
    """Frames that are settled; 0 if the number is not known."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What a device tells; facts that this version does not know are left out.

        Raises:
            DecodeError: it is something else.
        """
        try:
            tree = dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise DecodeError(f"This tells no progress: {error}") from error
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in tree.items() if name in known}
        if values.get("time_to_overrun_s", 0) is None:
            values["time_to_overrun_s"] = math.inf
        return cls(**values)

    def __str__(self) -> str:
        total = f" of {self.expected}" if self.expected else ""
        lost = f", {self.lost} lost" if self.lost else ""
        rate = f", {self.rate_hz:.0f} frames/s" if self.rate_hz else ""
        return f"{self.received}{total} frames{rate}{lost}"
