"""How many frames are safe."""

from __future__ import annotations

from typing import Any

from lima2_core.flow.pipeline import Counter
from processing.sinks.hdf5_rows import RowFilesSink


class Saved:
    """Frames that are safe in files, as a counter of the pipeline; never ahead of ``before``."""

    def __init__(self, sink: RowFilesSink[Any] | None, before: Counter) -> None:
        self._sink = sink
        self._before = before

    @property
    def value(self) -> int:
        # A file may be finished before the thread that handed its last frame on has counted it.
        saved = 0 if self._sink is None else self._sink.stats().frames_saved
        return min(saved, self._before.value)
