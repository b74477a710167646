"""Reduced data of a run: append-only streams of records, read through cursors.

Every consumer (a pop command, a client, a publisher) has a cursor of its own, so that none takes
the data of another. What all cursors have passed is forgotten.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import NotAvailableError

FRAME_IDX_RECORD = np.dtype([("recv_idx", "<i4"), ("frame_idx", "<i4")])
"""Which frame came as the next one on a receiver."""


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """The records that each frame gives.

    Shapes: (rows_per_frame,) of ``dtype``, packed, little endian.
    """

    name: str
    dtype: np.dtype[Any]
    rows_per_frame: int = 1


@dataclass(frozen=True, slots=True)
class StreamStats:
    """A snapshot: records appended, records kept, cursors, and cursors that were given up."""

    appended: int
    kept: int
    cursors: int
    given_up: int


class RecordStream:
    """Records in the order of the receiver.

    The memory is a ring that grows while a cursor needs it, up to ``limit_bytes``; a cursor that
    would need more is given up: its next `Cursor.read` says so.

    Threads: `append` from one thread at a time; the rest from any.
    """

    def __init__(self, spec: RecordSpec, capacity_frames: int = 100, limit_bytes: int = 2**28):
        self.spec = spec
        frame_bytes = max(1, spec.rows_per_frame) * spec.dtype.itemsize
        self._limit_rows = max(1, limit_bytes // frame_bytes) * max(1, spec.rows_per_frame)
        rows = max(1, capacity_frames) * max(1, spec.rows_per_frame)
        self._ring = np.zeros(min(rows, self._limit_rows), spec.dtype)
        self._end = 0
        self._cursors: dict[Cursor, int] = {}
        self._given_up = 0
        self._lock = threading.Lock()

    def cursor(self) -> Cursor:
        """A new reader; it sees what is appended from now on."""
        cursor = Cursor(self)
        with self._lock:
            self._cursors[cursor] = self._end
        return cursor

    def append(self, records: NDArray[Any]) -> None:
        """Put whole frames of records at the end.

        Shapes: (frames * rows_per_frame,) of ``spec.dtype``.
        """
        with self._lock:
            self._give_up_before(self._end + len(records) - self._limit_rows)
            if self._cursors:
                oldest = min(self._cursors.values())
                self._grow(self._end + len(records) - oldest, oldest)
                for offset, piece in self._pieces(self._end, len(records)):
                    self._ring[piece] = records[offset : offset + piece.stop - piece.start]
            self._end += len(records)

    def stats(self) -> StreamStats:
        with self._lock:
            kept = self._end - min(self._cursors.values(), default=self._end)
            return StreamStats(self._end, kept, len(self._cursors), self._given_up)

    def take(self, cursor: Cursor) -> NDArray[Any]:
        """Everything behind ``cursor``, which moves to the end; see `Cursor.read`."""
        with self._lock:
            if cursor not in self._cursors:
                raise NotAvailableError(
                    f"records of {self.spec.name} were not read in time and are gone; "
                    "read more often",
                    stream=self.spec.name,
                )
            start = self._cursors[cursor]
            out = np.empty(self._end - start, self.spec.dtype)
            for offset, piece in self._pieces(start, len(out)):
                out[offset : offset + piece.stop - piece.start] = self._ring[piece]
            self._cursors[cursor] = self._end
            return out

    def waiting(self, cursor: Cursor) -> int:
        """Records behind ``cursor`` that it has not read yet."""
        with self._lock:
            return self._end - self._cursors.get(cursor, self._end)

    def drop(self, cursor: Cursor) -> None:
        """Forget a reader."""
        with self._lock:
            self._cursors.pop(cursor, None)

    def _pieces(self, start: int, count: int) -> list[tuple[int, slice]]:
        """Places of rows ``start`` ... in the ring, each with its offset from ``start``."""
        size = len(self._ring)
        begin = start % size
        first = min(count, size - begin)
        pieces = [(0, slice(begin, begin + first))]
        if first < count:
            pieces.append((first, slice(0, count - first)))
        return pieces

    def _grow(self, needed: int, oldest: int) -> None:
        if needed <= len(self._ring):
            return
        size = min(max(needed, 2 * len(self._ring)), self._limit_rows)
        kept = np.empty(self._end - oldest, self.spec.dtype)
        for offset, piece in self._pieces(oldest, len(kept)):
            kept[offset : offset + piece.stop - piece.start] = self._ring[piece]
        self._ring = np.zeros(size, self.spec.dtype)
        for offset, piece in self._pieces(oldest, len(kept)):
            self._ring[piece] = kept[offset : offset + piece.stop - piece.start]

    def _give_up_before(self, row: int) -> None:
        late = [cursor for cursor, position in self._cursors.items() if position < row]
        for cursor in late:
            del self._cursors[cursor]
        self._given_up += len(late)


class Cursor:
    """One reader of a `RecordStream`.

    Threads: one at a time.
    """

    def __init__(self, stream: RecordStream) -> None:
        self._stream = stream

    @property
    def spec(self) -> RecordSpec:
        return self._stream.spec

    def read(self) -> NDArray[Any]:
        """Everything appended since the last read; whole frames only, possibly none.

        Raises:
            NotAvailableError: this reader was too slow, and was given up.
        """
        return self._stream.take(self)

    def waiting(self) -> int:
        """Records not read yet."""
        return self._stream.waiting(self)

    def close(self) -> None:
        """Read no more."""
        self._stream.drop(self)
