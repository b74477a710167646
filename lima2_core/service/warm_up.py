"""Provide the memory of frame buffers in the background, before frames need it."""

from __future__ import annotations

import os
import threading

from lima2_core.data.memory import PoolSet
from lima2_core.worker import Worker

_NICE = 10


class WarmUp:
    """Has the system provide the memory of all pools, slot by slot, on a thread of low priority.

    Threads: one owner.
    """

    def __init__(self, pools: PoolSet) -> None:
        self._pools = pools
        self._stop = threading.Event()
        self._worker: Worker | None = None

    def begin(self) -> None:
        """Provide what is missing; returns at once."""
        if self._worker is None or not self._worker.alive:
            self._worker = Worker("warm-up", self._work)

    def close(self) -> None:
        """Stop after the present slot."""
        self._stop.set()
        if self._worker is not None:
            self._worker.join()

    def _work(self) -> None:
        # Linux gives threads priorities of their own; acquisition and processing go first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while not self._stop.is_set() and self._pools.touch():
            pass
