"""What the receivers of a system are doing, whoever made them do it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from lima2_core.errors import Lima2Error
from lima2_core.ids import AcqId
from lima2_core.state.device import AcqState
from lima2_core.system.ports import ReceiverStatus
from lima2_core.worker import Worker
from tango_servers.ports import TangoReceiver

WATCH_S = 1.0
"""Time between two questions where nothing happens."""
SOON_S = 0.05
"""Between the first two after something has happened; from then on twice the time before."""


class ReceiverStates:
    """Asks the receivers again and again.

    Args:
        ports: those to ask, as of now.

    Threads: everything from any thread.
    """

    def __init__(self, name: str, ports: Callable[[], Sequence[TangoReceiver]]) -> None:
        self._ports = ports
        self._statuses: dict[str, ReceiverStatus | str] = {}
        self._closed = False
        self._wanted = threading.Event()
        self._worker = Worker(f"front-{name}", self._work)

    def line(self, name: str) -> str:
        """What a receiver does."""
        status = self._statuses.get(name, "not asked yet")
        if isinstance(status, str):
            return status
        return status.state.name.lower() + (f" ({status.error})" if status.error else "")

    def foreign(self, knows: Callable[[AcqId | None], bool]) -> str:
        """A receiver that takes frames for another client; empty without one.

        Args:
            knows: whether an acquisition is ours.
        """
        for name, status in self._statuses.copy().items():
            if (
                isinstance(status, ReceiverStatus)
                and status.state is AcqState.RUNNING
                and not knows(status.acq_id)
            ):
                return name
        return ""

    def ask(self) -> None:
        """Ask now, and again soon: something has happened, and receivers may follow a bit later."""
        self._wanted.set()

    def end(self) -> None:
        """Ask no more."""
        self._closed = True
        self._wanted.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the last answer, but not for long."""
        self._worker.join(timeout_s)

    def _work(self) -> None:
        pause_s = SOON_S
        while True:
            pause_s = SOON_S if self._wanted.wait(pause_s) else min(WATCH_S, 2 * pause_s)
            if self._closed:
                return
            self._wanted.clear()  # what happens from here on is asked for once more
            for port in self._ports():
                try:
                    self._statuses[port.name] = port.status()
                except Lima2Error as error:
                    self._statuses[port.name] = str(error)
