"""The live image of the front: fetched now and then, reduced where it lies, never in a command."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import Lima2Error
from lima2_core.ids import AcqId
from lima2_core.state.system import Phase
from lima2_core.system.images import main_source
from lima2_core.worker import Worker
from tango_servers.front_run import FrontRun

log = logging.getLogger(__name__)

PERIOD_S = 0.1
"""No more than ten images per second."""
LARGEST = 4096
"""Pixels along the longer side, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveImage:
    """Shapes: ``pixels`` (rows, cols), one in ``step`` of the frame, each way."""

    acq_id: AcqId
    idx: int
    step: int
    pixels: NDArray[np.float32]


class ImageFollower:
    """Keeps a reduced copy of the newest frame of the current run.

    Args:
        current: the run to look at.

    Threads: everything from any thread.
    """

    def __init__(self, name: str, current: Callable[[], FrontRun | None]) -> None:
        self.max_size = 512
        """Pixels along the longer side."""
        self.newest: LiveImage | None = None
        self._current = current
        self._seen: tuple[object, ...] = ()
        self._closed = threading.Event()
        self._worker = Worker(f"images-{name}", self._work)

    def close(self, timeout_s: float) -> None:
        """Fetch no more."""
        self._closed.set()
        self._worker.join(timeout_s)

    def _work(self) -> None:
        while not self._closed.wait(PERIOD_S):
            current = self._current()
            if current is not None and current.there:
                try:
                    self._look(current)
                except Lima2Error as error:
                    # Not there yet, or not any more; an unreachable receiver is told elsewhere.
                    log.debug("no live image: %s", error)

    def _look(self, current: FrontRun) -> None:
        run = current.run
        if run.phase is Phase.PREPARED or not run.view.sources:
            return
        size = self.max_size
        seen = (current.acq_id, run.received, current.last_image_ready, size)
        if seen == self._seen or run.received == 0:
            return
        source = main_source(run)
        _, rows, cols = run.view.sources[source].shape
        step = max(1, -(-max(rows, cols) // size))
        frame = current.frame(source, -1, step)
        pixels = np.ascontiguousarray(frame.data[0], np.float32)
        self.newest = LiveImage(current.acq_id, frame.idx, step, pixels)
        self._seen = seen
