"""Merged records of a run for any number of clients, who may come late and go without a word."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.record import RecordSpec, RecordStream
from lima2_core.errors import NotAvailableError

HISTORY_BYTES = 2**26
"""Kept of each stream."""
MOST_CURSORS = 256


class StreamHistory:
    """The newest records of a stream, from the first one on as long as they are few enough.

    Threads: everything from any thread.
    """

    def __init__(self, stream: RecordStream, limit_bytes: int = HISTORY_BYTES) -> None:
        self.spec: RecordSpec = stream.spec
        self._limit_bytes = limit_bytes
        self._cursor = stream.cursor()
        self._starts: list[int] = []
        self._pieces: list[NDArray[Any]] = []
        self._nbytes = 0
        self._end = 0
        self._lock = threading.Lock()

    @property
    def first(self) -> int:
        """The oldest record kept."""
        with self._lock:
            return self._starts[0] if self._starts else self._end

    def gather(self) -> None:
        """Take what was appended; to be called now and then, lest the stream keeps it."""
        with self._lock:
            self._gather()

    def read(self, first: int) -> NDArray[Any]:
        """All records from ``first`` on.

        Raises:
            NotAvailableError: they are not kept any more.
        """
        with self._lock:
            self._gather()
            oldest = self._starts[0] if self._starts else self._end
            if first < oldest:
                frame = oldest // max(1, self.spec.rows_per_frame)
                raise NotAvailableError(
                    f"records of {self.spec.name} before frame {frame} are not kept any more, as "
                    "they were not read in time; open a new cursor to go on",
                    stream=self.spec.name,
                )
            place = max(0, bisect_right(self._starts, first) - 1)
            pieces = self._pieces[place:]
            if not pieces:
                return np.empty(0, self.spec.dtype)
            return np.concatenate(pieces)[first - self._starts[place] :]

    def close(self) -> None:
        """Take no more."""
        self._cursor.close()

    def _gather(self) -> None:
        new = self._cursor.read()
        if not len(new):
            return
        self._starts.append(self._end)
        self._pieces.append(new)
        self._end += len(new)
        self._nbytes += new.nbytes
        while self._nbytes > self._limit_bytes and len(self._pieces) > 1:
            self._nbytes -= self._pieces.pop(0).nbytes
            del self._starts[0]


@dataclass(slots=True)
class _Reader:
    stream: str
    row: int


class Cursors:
    """The clients that read the streams of one run, each for itself.

    Of more than `MOST_CURSORS` the one that was not served for longest is given up.

    Threads: everything from any thread.
    """

    def __init__(self, streams: Mapping[str, RecordStream]) -> None:
        self._histories = {name: StreamHistory(stream) for name, stream in streams.items()}
        self._readers: dict[int, _Reader] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def open(self, stream: str) -> int:
        """A new cursor, at the oldest records kept: the first ones, unless there are very many.

        Raises:
            NotAvailableError: no such stream.
        """
        history = self._histories.get(stream)
        if history is None:
            known = ", ".join(self._histories) or "none"
            raise NotAvailableError(
                f"there is no stream {stream!r} in this run; there are: {known}", stream=stream
            )
        with self._lock:
            while len(self._readers) >= MOST_CURSORS:
                del self._readers[next(iter(self._readers))]
            cursor = next(self._ids)
            self._readers[cursor] = _Reader(stream, history.first)
            return cursor

    def read(self, cursor: int) -> tuple[str, int, NDArray[Any]]:
        """Stream, position of the first record, and all records that the cursor has not given.

        Raises:
            NotAvailableError: no such cursor, or it was too slow; it is closed then.
        """
        with self._lock:
            reader = self._readers.pop(cursor, None)
            if reader is None:
                raise NotAvailableError(
                    f"cursor {cursor} is not known: it was closed, or given up as it was not "
                    "served; open a new one",
                    cursor=cursor,
                )
            records = self._histories[reader.stream].read(reader.row)
            self._readers[cursor] = reader  # the last in line to be given up
            first = reader.row
            reader.row += len(records)
            return reader.stream, first, records

    def close(self, cursor: int) -> None:
        """Forget a cursor; one that is not known is forgotten already."""
        with self._lock:
            self._readers.pop(cursor, None)

    def gather(self) -> None:
        """Take what is new of all streams; to be called now and then."""
        for history in self._histories.values():
            history.gather()

    def close_all(self) -> None:
        """The run is gone."""
        with self._lock:
            self._readers.clear()
        for history in self._histories.values():
            history.close()
