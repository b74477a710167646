"""How far an acquisition is, as good as a detector tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_RESTING: Final = ("IDLE", "STOPPED")
_WORST_FIRST: Final = ("ERROR", "RUNNING", "TRANSMITTING", "WAITING", "RUN_FINISHED", "STOPPED")


def rests(status: Sequence[str]) -> bool:
    """Whether no module acquires."""
    return all(state in _RESTING for state in status)


def state_of(status: Sequence[str]) -> str:
    """The state of all modules together, in a word."""
    return next((state for state in _WORST_FIRST if state in status), "IDLE").lower()


@dataclass(slots=True)
class Progress:
    """One acquisition, from Prepare on.

    A virtual detector does not count, and of one with storage cells it is not known what it
    counts. Their progress is an estimate from the time, until they rest by themselves.
    """

    images: int
    period_s: float
    cells: int = 1
    """Images of each exposure."""
    is_virtual: bool = False
    software: bool = False
    """Whether it waits for software triggers."""
    started_s: float | None = None
    stopping: bool = False
    """Whether it has been told to end."""
    exposed: int = 0
    ended: bool = False
    broken: str = ""
    """Why it ended early, though nobody here told it to; or what speaks for that."""
    is_exact: bool = field(init=False)
    """Whether `exposed` is certain once it has ended."""

    def __post_init__(self) -> None:
        self.is_exact = self.counts

    @property
    def counts(self) -> bool:
        """Whether the counters of the modules are worth reading."""
        return not self.is_virtual and self.cells == 1

    @property
    def running(self) -> bool:
        return self.started_s is not None and not self.ended

    def note(self, status: Sequence[str], counters: Sequence[int], now_s: float) -> None:
        """Take what the modules tell."""
        if self.ended or self.started_s is None:
            return
        if not self.stopping and all(state == "IDLE" for state in status):
            self.exposed, self.ended, self.is_exact = self.images, True, True
            return
        self.ended = rests(status)
        most = self.images if self.ended else self.images - 1
        if self.counts:
            done = min(counters)
        elif self.is_virtual:
            done = int((now_s - self.started_s) / self.period_s) * self.cells
        else:
            done = 0
        self.exposed = max(0, min(max(done, self.exposed), most))
        self.broken = ""
        if "ERROR" in status:
            self.broken = "is in error"
        elif self.ended and not self.stopping and self.exposed < self.images:
            self.broken = (
                f"stopped by itself, or was stopped by others, after {self.exposed} frames"
            )
