"""Stand-ins for time and for the link between the parts of a camera."""

from __future__ import annotations

import threading

from lima2_core.camera.api import CameraMessage, FrameSource

_LOOK_S = 0.001
_PATIENCE_S = 20.0


class ManualClock:
    """A clock that stands still until the test moves it.

    Args:
        jumps: whether a wait whose event is not set moves the clock to its end by itself, for
            tests with a single thread.

    Threads: everything from any thread.
    """

    def __init__(self, *, jumps: bool = False, wall_s: float = 1_000_000.0) -> None:
        self._now_s = 0.0
        self._wall_ahead_s = wall_s
        self._jumps = jumps
        self._waiting = 0
        self._changed = threading.Condition()

    def now_s(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        return self._now_s + self._wall_ahead_s

    def set_wall(self, wall_s: float) -> None:
        """Set the time of day, as an administrator might; `now_s` does not notice."""
        self._wall_ahead_s = wall_s - self._now_s

    def advance(self, by_s: float) -> None:
        """Let time pass."""
        with self._changed:
            self._now_s += by_s
            self._changed.notify_all()

    def wait(self, event: threading.Event, until_s: float) -> bool:
        """Wait for ``event`` or until somebody has moved the clock to ``until_s``.

        Raises:
            AssertionError: nothing happened for 20 s of real time.
        """
        if self._jumps:
            if not event.is_set() and until_s > self._now_s:
                if until_s == float("inf"):
                    raise AssertionError("a wait without end, and nobody to end it")
                self._now_s = until_s
            return event.is_set()
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
        try:
            for _ in range(int(_PATIENCE_S / _LOOK_S)):
                if event.is_set() or self._now_s >= until_s:
                    return event.is_set()
                # The event belongs to somebody else, who does not know of this clock.
                event.wait(_LOOK_S)
        finally:
            with self._changed:
                self._waiting -= 1
        raise AssertionError(f"waited 20 s for the manual clock to reach {until_s}")

    def wait_for_waiter(self, timeout_s: float = 5.0) -> bool:
        """Wait, in real time, until a thread waits on this clock; whether one does."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting > 0, timeout_s)


class DirectLink:
    """A camera link that calls the sources at once, on the thread of the control part."""

    def __init__(self) -> None:
        self.sources: list[FrameSource] = []
        self.messages: list[CameraMessage] = []
        """All that was sent so far."""

    def broadcast(self, message: CameraMessage) -> None:
        self.messages.append(message)
        for source in self.sources:
            source.deliver(message)
