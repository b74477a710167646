"""When the frames of an acquisition are exposed, where a clock stands for the hardware."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right

from lima2_core.camera.params import AcqParams

ENDLESS = 2**62
"""Stands for a number of frames without end."""

_MARGIN_S = 0.5e-6
"""Below the shortest exposure, above the rounding of a time since 1970 (0.24 us)."""


class Exposures:
    """The moments of all exposures, computed from the triggers and never from each other.

    A burst of frames follows each trigger; a trigger that comes too early waits for its turn. The
    internal trigger is a single burst without end. All times are those of one monotonic clock.

    Args:
        expo_s: from the start to the end of an exposure, when its frame is due.
        period_s: from start to start within a burst; 0 makes a burst due all at once.
        per_trigger: frames of a burst.

    Threads: `trigger` and `train` by one at a time, the rest from any.
    """

    def __init__(self, expo_s: float, period_s: float, per_trigger: int = ENDLESS) -> None:
        self._expo_s = expo_s
        self._period_s = period_s
        self._per_trigger = per_trigger
        self._starts_s = array("d")
        self._every_s = 0.0

    @classmethod
    def asked_by(cls, acq: AcqParams, *, at_once: bool = False) -> Exposures:
        """The exposures that the parameters describe; ``at_once``: due with their trigger."""
        per_trigger = ENDLESS if acq.trigger_mode == "internal" else acq.nb_frames_per_trigger
        if at_once:
            return cls(0.0, 0.0, per_trigger)
        return cls(acq.expo_time_s, acq.period_s, per_trigger)

    @property
    def nb_triggers(self) -> int:
        """Triggers taken one by one."""
        return len(self._starts_s)

    def trigger(self, at_s: float) -> None:
        """Take a trigger, later than all before it."""
        if self._starts_s:
            at_s = max(at_s, self._starts_s[-1] + self._per_trigger * self._period_s)
        self._starts_s.append(at_s)

    def train(self, first_s: float, every_s: float) -> None:
        """Take triggers at equal distances from ``first_s`` on, for ever."""
        self._starts_s.append(first_s)
        self._every_s = max(every_s, self._per_trigger * self._period_s)

    def ended(self, now_s: float) -> int:
        """Exposures that have come to their end."""
        latest_s = now_s - self._expo_s + _MARGIN_S
        starts_s = self._starts_s
        if not starts_s or latest_s < starts_s[0]:
            return 0
        if self._every_s:
            burst = math.floor((latest_s - starts_s[0]) / self._every_s)
            start_s = starts_s[0] + burst * self._every_s
        else:
            burst = bisect_right(starts_s, latest_s) - 1
            start_s = starts_s[burst]
        in_burst = self._per_trigger
        if self._period_s:
            in_burst = min(in_burst, math.floor((latest_s - start_s) / self._period_s) + 1)
        return burst * self._per_trigger + max(in_burst, 0)

    def start_s(self, frame: int) -> float:
        """When ``frame`` starts to be exposed; infinite if its trigger has not come."""
        burst, place = divmod(frame, self._per_trigger)
        if self._every_s:
            start_s = self._starts_s[0] + burst * self._every_s
        elif burst < len(self._starts_s):
            start_s = self._starts_s[burst]
        else:
            return math.inf
        return start_s + place * self._period_s

    def due_s(self, frame: int) -> float:
        """When the exposure of ``frame`` ends; infinite if its trigger has not come."""
        return self.start_s(frame) + self._expo_s
