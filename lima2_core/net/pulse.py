"""Tells a listener that hangs from one that is busy, or that gets no time from its computer."""

from __future__ import annotations

import time
from typing import Final

from lima2_core.net.table import RequestTable

BEAT_S: Final = 0.25
"""A listener counts at least so often, also if it has nothing to do."""

LOOK_S: Final = 0.1
"""How often its receiver looks; what passes between two looks counts as so much at most."""

_LATE_S: Final = BEAT_S + 0.05
_HUNG_S: Final = 1.0
_STARVED_S: Final = 5.0

STATES: Final = {
    "S": "asleep",
    "T": "stopped",
    "t": "stopped by a debugger",
    "R": "wants a core",
    "D": "waits for memory or a disk",
}


def process_state(pid: int) -> str:
    """The letter that ``/proc`` has for a process; empty if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def is_stopped(pid: int) -> bool:
    """Whether a signal made the process stand still."""
    return process_state(pid) == "T"


def is_kept_waiting(pid: int) -> bool:
    """Whether a process would go on if its computer let it: for want of a core, memory or disk."""
    return process_state(pid) in ("R", "D")


class Pulse:
    """Looks at the count that a listener keeps in the table of requests.

    It hangs if the count stands still for a second in which it was asleep or stopped, or for five
    seconds whatever it did. Only time in which somebody looks counts: when both sides were without
    a core, or the whole computer slept, nothing follows from it.
    """

    def __init__(self, table: RequestTable, pid: int) -> None:
        self._table = table
        self._pid = pid
        self._beat = table.beat
        self._looked_s = time.monotonic()
        self._silent_s = 0.0
        self._kept_waiting_s = 0.0

    def failure(self) -> str | None:
        """Look; what is wrong if the listener hangs, else None."""
        now_s, beat = time.monotonic(), self._table.beat
        passed_s = min(now_s - self._looked_s, LOOK_S)
        self._looked_s = now_s
        if beat != self._beat:
            self._beat = beat
            self._silent_s = self._kept_waiting_s = 0.0
            return None
        self._silent_s += passed_s
        if self._silent_s < _LATE_S:
            return None
        if is_kept_waiting(self._pid):
            self._kept_waiting_s += passed_s
        if self._silent_s < _STARVED_S and self._silent_s - self._kept_waiting_s < _HUNG_S:
            return None
        state = process_state(self._pid)
        return f"no sign of life for {self._silent_s:.1f} s, {STATES.get(state, 'state ' + state)}"
