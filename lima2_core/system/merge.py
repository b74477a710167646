"""Records of several receivers, put into frame order; a frame that is missing has a record too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.record import RecordSpec, RecordStream

_FIRST_WINDOW = 256


class FrameOrder:
    """Takes the records of frames in any order and gives them on in frame order.

    In the records of a missing frame all floats are not-a-number and all integers zero, except
    the index.

    Args:
        spec: of the records of one frame; ``dtype`` has a field ``frame_idx``.
        give: takes the records of the next frames; the memory is used again.

    Threads: everything from any thread.
    """

    def __init__(self, spec: RecordSpec, give: Callable[[NDArray[Any]], None]) -> None:
        self.spec = spec
        self._give = give
        self._window = np.zeros((_FIRST_WINDOW, spec.rows_per_frame), spec.dtype)
        self._filled = np.zeros(_FIRST_WINDOW, bool)
        self._used = 0
        """Places of the window up to the last one that is filled."""
        self._front = 0
        self._lock = threading.Lock()

    @property
    def front(self) -> int:
        """Frames below this index have been given on."""
        return self._front

    @property
    def highest(self) -> int:
        """One more than the highest index of a frame whose records came."""
        return self._front + self._used

    def put(self, records: NDArray[Any]) -> None:
        """Take the records of whole frames; those of frames already there are left out.

        Shapes: (frames * rows_per_frame,) of ``spec.dtype``.
        """
        frames = records.reshape(-1, self.spec.rows_per_frame)
        # Of an index that comes twice an assignment would keep the last.
        idx, first = np.unique(frames["frame_idx"][:, 0].astype(np.int64), return_index=True)
        with self._lock:
            new = self._missing(idx)
            self._fill(idx[new], frames[first[new]])

    def miss(self, indices: NDArray[Any]) -> None:
        """Make the records of frames that are known to be missing.

        Shapes: (n,) frame indices, each once.
        """
        with self._lock:
            indices = indices[self._missing(indices)]
            self._fill(indices, self._blank(indices))

    def open_indices(self, total: int) -> NDArray[np.int64]:
        """Frames below ``total`` whose records have not come."""
        with self._lock:
            used = min(self._used, max(0, total - self._front))
            holes = np.flatnonzero(~self._filled[:used]) + self._front
            beyond = np.arange(self._front + used, total)
            return np.concatenate([holes, beyond])

    def _missing(self, idx: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of these frames have no records yet."""
        missing = idx >= self._front
        here = missing & (idx < self._front + self._used)
        missing[here] = ~self._filled[idx[here] - self._front]
        return missing

    def _fill(self, idx: NDArray[Any], frames: NDArray[Any]) -> None:
        if len(idx) == 0:
            return
        used = max(self._used, int(idx.max()) + 1 - self._front)
        self._reserve(used)
        self._window[idx - self._front] = frames
        self._filled[idx - self._front] = True
        self._used = used
        self._advance()

    def _advance(self) -> None:
        """Give on what is complete; only places in use are moved, as the window may be large."""
        used = self._used
        filled = self._filled[:used]
        ready = used if filled.all() else int(filled.argmin())
        if ready == 0:
            return
        self._give(self._window[:ready].reshape(-1))
        left = used - ready
        self._window[:left] = self._window[ready:used]
        self._filled[:left] = self._filled[ready:used]
        self._filled[left:used] = False
        self._used = left
        self._front += ready

    def _reserve(self, size: int) -> None:
        if size <= len(self._filled):
            return
        capacity = max(size, 2 * len(self._filled))
        window = np.zeros((capacity, self.spec.rows_per_frame), self.spec.dtype)
        filled = np.zeros(capacity, bool)
        window[: self._used] = self._window[: self._used]
        filled[: self._used] = self._filled[: self._used]
        self._window, self._filled = window, filled

    def _blank(self, idx: NDArray[Any]) -> NDArray[Any]:
        records = np.zeros((len(idx), self.spec.rows_per_frame), self.spec.dtype)
        for name in self.spec.dtype.names or ():
            if self.spec.dtype[name].base.kind == "f":
                records[name] = np.nan
        records["frame_idx"] = idx[:, None]
        return records


class RecordMerger(FrameOrder):
    """Appends the records of frames to one stream, in frame order.

    Threads: everything from any thread.
    """

    def __init__(self, spec: RecordSpec, limit_bytes: int = 2**28) -> None:
        self.stream = RecordStream(spec, limit_bytes=limit_bytes)
        """The merged records; its cursors are the readers."""
        super().__init__(spec, self.stream.append)

    def tell(self, receiver: int, records: NDArray[Any]) -> None:
        """Take records of whole frames from a receiver, whichever."""
        self.put(records)

    def end(self, total: int) -> None:
        """Make the records of all frames below ``total`` that have none; nothing more comes."""
        self.miss(self.open_indices(total))
