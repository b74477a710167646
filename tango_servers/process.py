"""What the devices of one server process share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from lima2_core.service.receiver import ReceiverService
from lima2_core.service.run import Run
from tango_servers.front_run import FrontRun
from tango_servers.news import Listeners

log = logging.getLogger(__name__)


class Process:
    """The receivers and runs of this process by device name in lower case, and how to end them.

    Threads: everything from any thread.
    """

    def __init__(self) -> None:
        self.receivers: dict[str, ReceiverService] = {}
        """Services of the receiver devices in this process."""
        self.runs: dict[str, Run] = {}
        """Runs by the name of their processing device; filled before the device is made."""
        self.listeners: dict[str, Listeners] = {}
        """Who listens to these runs; by the same names."""
        self.system_runs: dict[str, FrontRun] = {}
        """Runs of the whole system by the name of their device; filled before it is made."""
        self.serving = False
        """Whether all devices of the start are there, and clients are answered."""
        self.devices_lock = threading.Lock()
        """Held while a device is made, deleted or looked up: Tango's lists bear one thread only.

        A proxy looks for its device in this process first. One of a stopped process holds the lock
        for some seconds: who cannot wait for so long says so.
        """
        self._shut_downs: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()

    def add(self, device: str, shut_down: Callable[[], None]) -> None:
        """Have ``shut_down`` called at the end of the process."""
        with self._lock:
            self._shut_downs[device] = shut_down

    def remove(self, device: str) -> None:
        """Forget a device that ended by itself."""
        with self._lock:
            self._shut_downs.pop(device, None)

    def shut_down(self) -> None:
        """End all devices."""
        with self._lock:
            work, self._shut_downs = self._shut_downs, {}
        for shut_down in work.values():
            shut_down()


PROCESS = Process()
"""The one of this process: Tango makes devices by class, without a place to hand it over."""
