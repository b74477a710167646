"""What an acquisition of the demonstration gives, whoever drives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from tango_servers.local.demo_progress import Progress

PIPELINE = "LimaProcessingLegacy"
SOURCE = "frame"
PREFIX = "lima2_demo"
POLL_S = 0.05
LIVE_EVERY_S = 0.25
LIVE_DISTANCE = 10
"""How far behind the newest frame the one is that is asked for by its number."""
STALL_S = 30.0
"""Without any progress for that long, and the time of an exposure, the acquisition hangs."""


@dataclass(slots=True)
class Live:
    """Frames that were looked at while the acquisition ran."""

    read: int = 0
    different: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Why a frame was not to be had."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the acquisition, as far as the system tells."""

    progress: Progress
    duration_s: float
    """From the start command until all files were closed."""
    rate_hz: float
    """Frames received per second."""
    warnings: tuple[str, ...]
    live: Live
    statistics: NDArray[Any]
    """Shapes: (frames,) with the fields min, max, avg, std and sum."""
    master_file: Path
    dataset: str
    verdict: str = ""
    """What the ledger of the system says; empty where there is none."""
    results: tuple[str, ...] = ()
    """Files and scans that the system names."""
    notes: tuple[str, ...] = ()
    """What to know besides, without harm to the frames."""


class Driver(Protocol):
    """Runs one acquisition; `prepare`, then `run`.

    Raises:
        Lima2Error: from every method, where the system refuses.
    """

    def prepare(self, folder: Path) -> None:
        """Set the parameters; files go to ``folder``."""
        ...

    def run(self, show: Callable[[Progress, float], None]) -> Outcome:
        """Acquire, and look at frames meanwhile; ``show`` is told progress and time."""
        ...


def rate_hz(samples: list[tuple[float, Progress]]) -> float:
    """Frames received per second, from the first to the last change of their number."""
    last = samples[-1][1].received
    end = next((time_s, count.received) for time_s, count in samples if count.received == last)
    begin = next(((t, count.received) for t, count in samples if count.received), end)
    if end[0] <= begin[0]:
        begin = (0.0, 0)
    return (end[1] - begin[1]) / max(end[0] - begin[0], POLL_S)
