"""Records of several receivers, put into frame order; a frame that is missing has a record too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.record import RecordSpec, RecordStream

_FIRST_WINDOW = 256


class RecordMerger:
    """Takes the records of frames in any order and appends them to one stream in frame order.

    Args:
        spec: of the records of one frame; ``dtype`` has a field ``frame_idx``.
        missing: makes the records of a frame that has none. By default all floats in them are
            not-a-number and all integers zero, except the index.

    Threads: everything from any thread.
    """

    def __init__(
        self,
        spec: RecordSpec,
        missing: Callable[[int], NDArray[Any]] | None = None,
        limit_bytes: int = 2**28,
    ) -> None:
        self.spec = spec
        self.stream = RecordStream(spec, limit_bytes=limit_bytes)
        """The merged records; its cursors are the readers."""
        self._missing = missing or self._blank
        self._window = np.zeros((_FIRST_WINDOW, spec.rows_per_frame), spec.dtype)
        self._filled = np.zeros(_FIRST_WINDOW, bool)
        self._front = 0
        self._lock = threading.Lock()

    @property
    def front(self) -> int:
        """Frames below this index have been appended to the stream."""
        return self._front

    def put(self, records: NDArray[Any]) -> None:
        """Take the records of whole frames; those of frames already there are left out.

        Shapes: (frames * rows_per_frame,) of ``spec.dtype``.
        """
        frames = records.reshape(-1, self.spec.rows_per_frame)
        with self._lock:
            idx = frames["frame_idx"][:, 0].astype(np.int64)
            ahead = idx >= self._front
            idx, frames = idx[ahead], frames[ahead]
            if len(idx) == 0:
                return
            self._reserve(int(idx.max()) + 1 - self._front)
            self._window[idx - self._front] = frames
            self._filled[idx - self._front] = True
            self._advance()

    def miss(self, indices: NDArray[Any]) -> None:
        """Make the records of frames that are known to be missing.

        Shapes: (n,) frame indices.
        """
        with self._lock:
            for idx in indices[indices >= self._front].tolist():
                self._reserve(idx + 1 - self._front)
                if not self._filled[idx - self._front]:
                    self._window[idx - self._front] = self._missing(idx)
                    self._filled[idx - self._front] = True
            self._advance()

    def open_indices(self, total: int) -> NDArray[np.int64]:
        """Frames below ``total`` whose records have not come."""
        with self._lock:
            if total <= self._front:
                return np.empty(0, np.int64)
            self._reserve(total - self._front)
            return np.flatnonzero(~self._filled[: total - self._front]) + self._front

    def _advance(self) -> None:
        ready = len(self._filled) if self._filled.all() else int(self._filled.argmin())
        if ready == 0:
            return
        self.stream.append(self._window[:ready].reshape(-1))
        left = len(self._filled) - ready
        self._window[:left] = self._window[ready:]
        self._filled[:left] = self._filled[ready:]
        self._filled[left:] = False
        self._front += ready

    def _reserve(self, size: int) -> None:
        if size <= len(self._filled):
            return
        capacity = max(size, 2 * len(self._filled))
        window = np.zeros((capacity, self.spec.rows_per_frame), self.spec.dtype)
        filled = np.zeros(capacity, bool)
        window[: len(self._filled)] = self._window
        filled[: len(self._filled)] = self._filled
        self._window, self._filled = window, filled

    def _blank(self, idx: int) -> NDArray[Any]:
        records = np.zeros(self.spec.rows_per_frame, self.spec.dtype)
        for name in self.spec.dtype.names or ():
            if self.spec.dtype[name].kind == "f":
                records[name] = np.nan
        records["frame_idx"] = idx
        return records
