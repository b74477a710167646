"""Records of parts of frames, made into those of whole frames, in frame order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.pooling import PART_RECORD, Reach, pooled, reached
from lima2_core.data.record import RecordSpec, RecordStream
from lima2_core.system.merge import FrameOrder

_STEP_BYTES = 2**22
"""About what is put together at once: there may be very much, once a part that was late comes."""


class PartMerger:
    """Appends the records of frames to one stream, once all parts of them came or are missing.

    Args:
        spec: of the records of whole frames.
        reaches: by part, the records to which it contributes.

    Raises:
        ValueError: a reach is none of such records.

    Threads: everything from any thread.
    """

    def __init__(
        self, spec: RecordSpec, reaches: Sequence[Reach], limit_bytes: int = 2**28
    ) -> None:
        self.spec = spec
        self.stream = RecordStream(spec, limit_bytes=limit_bytes)
        """The merged records; its cursors are the readers."""
        self._reaching = reached(reaches, spec.rows_per_frame)
        self._waiting = [_Waiting(spec.rows_per_frame) for _ in reaches]
        own = RecordSpec(spec.name, PART_RECORD, spec.rows_per_frame)
        self.parts = tuple(FrameOrder(own, waiting.put) for waiting in self._waiting)
        """Where the records of each part come in; what follows from them: `merge`."""
        self._lock = threading.Lock()

    @property
    def highest(self) -> int:
        """One more than the highest index of a frame of which any part came."""
        return max(part.highest for part in self.parts)

    def tell(self, receiver: int, records: NDArray[Any]) -> None:
        """Take records of the part of frames that a receiver has."""
        self.parts[receiver].put(records)

    def end(self, total: int) -> None:
        """Make the records of all frames below ``total`` that have none; nothing more comes."""
        for part in self.parts:
            part.miss(part.open_indices(total))
        self.merge()

    def merge(self) -> None:
        """Append all frames of which everything is known by now."""
        step = max(1, _STEP_BYTES // max(1, self._reaching.size * PART_RECORD.itemsize))
        with self._lock:
            while ready := min(step, *(waiting.frames for waiting in self._waiting)):
                parts = np.empty((len(self._waiting), ready, self.spec.rows_per_frame), PART_RECORD)
                for waiting, own in zip(self._waiting, parts, strict=True):
                    waiting.take(own)
                whole = pooled(parts, self._reaching, self.spec.dtype)
                self.stream.append(whole.reshape(-1))


class _Waiting:
    """Records of one part, in frame order, that wait for those of the others.

    Threads: `put` from one at a time, `take` from another.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._pieces: deque[NDArray[Any]] = deque()
        self._came = 0
        self._taken = 0

    @property
    def frames(self) -> int:
        """How many wait."""
        return self._came - self._taken

    def put(self, records: NDArray[Any]) -> None:
        """Take the records of whole frames.

        Shapes: (frames * rows,)
        """
        frames = records.reshape(-1, self._rows).copy()
        self._pieces.append(frames)
        self._came += len(frames)

    def take(self, out: NDArray[Any]) -> None:
        """Give the oldest frames; there are as many as fit into ``out``.

        Shapes: out (frames, rows).
        """
        place = 0
        while place < len(out):
            piece = self._pieces.popleft()
            some = min(len(piece), len(out) - place)
            out[place : place + some] = piece[:some]
            if some < len(piece):
                self._pieces.appendleft(piece[some:])
            place += some
        self._taken += len(out)
