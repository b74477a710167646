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


@dataclass(slots=True)
class ImageChoice:
    """What users want to see."""

    max_size: int = 512
    """Pixels along the longer side."""
    band: int = 0
    """Of frames with fewer bands the last one is shown."""


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
        choice: what of it; it may change at any time.
        current: the run to look at.

    Threads: everything from any thread.
    """

    def __init__(
        self, name: str, choice: ImageChoice, current: Callable[[], FrontRun | None]
    ) -> None:
        self._choice = choice
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
        size, band, ready = self._choice.max_size, self._choice.band, current.last_image_ready
        seen = (current.acq_id, run.received, ready, size, band)
        if seen == self._seen or run.received == 0:
            return
        source = main_source(run)
        bands, rows, cols = run.view.sources[source].shape
        step = max(1, -(-max(rows, cols) // size))
        frame = current.frame(source, -1, step)
        pixels = np.ascontiguousarray(frame.data[min(band, bands - 1)], np.float32)
        before, self.newest = self.newest, LiveImage(current.acq_id, frame.idx, step, pixels)
        # A receiver may tell of a frame an instant before it gives it: then ask once more.
        again = before is not None and (before.acq_id, before.idx) == (current.acq_id, frame.idx)
        if frame.idx >= ready or again:
            self._seen = seen
