"""Time as an object, so that tests keep it in their own hands."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock that can be waited on."""

    def now_s(self) -> float:
        """Monotonic time in seconds; only differences mean something."""
        ...

    def wall_s(self) -> float:
        """Seconds since 1970; comparable between computers, as far as they are synchronised."""
        ...

    def wait(self, event: threading.Event, until_s: float) -> bool:
        """Wait for ``event`` or until `now_s` reaches ``until_s``; True if the event is set."""
        ...


class SystemClock:
    """The clock of the computer."""

    def now_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()

    def wait(self, event: threading.Event, until_s: float) -> bool:
        return event.wait(max(0.0, until_s - time.monotonic()))
