"""Reduced data into record streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.record import FRAME_IDX_RECORD, RecordStream
from lima2_core.flow.sink import Row, Sink
from lima2_core.ids import FrameIdx, ReceiverIdx


class RecordSink(Sink):
    """Appends the records of each row; a gap gives what ``missing`` makes for it."""

    name = "records"

    def __init__(self, stream: RecordStream, missing: Callable[[FrameIdx], NDArray[Any]]) -> None:
        self._stream = stream
        self._missing = missing

    def write(self, rows: Sequence[Row]) -> None:
        self._stream.append(self._joined(rows, self._stream.spec.dtype))

    def _joined(self, rows: Sequence[Row], dtype: np.dtype[Any]) -> NDArray[Any]:
        records = [
            self._missing(row.idx) if row.gap is not None else np.asarray(row.value) for row in rows
        ]
        if len(records) > 1:
            # A hundred times faster than numpy, which looks at each field of structured arrays.
            return np.frombuffer(b"".join(record.data for record in records), dtype)
        return records[0]


class PartRecordSink(RecordSink):
    """The same for records of parts: as they are, and as those of this receiver are laid out."""

    def __init__(
        self,
        stream: RecordStream,
        parts: RecordStream,
        missing: Callable[[FrameIdx], NDArray[Any]],
    ) -> None:
        super().__init__(stream, missing)
        self._parts = parts

    def write(self, rows: Sequence[Row]) -> None:
        records = self._joined(rows, self._parts.spec.dtype)
        own = np.empty(len(records), self._stream.spec.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for name in own.dtype.names or ():
                own[name] = records[name]
        self._parts.append(records)
        self._stream.append(own)


class FrameIdxSink(Sink):
    """Appends which frame every row is."""

    name = "frame_idx"

    def __init__(self, stream: RecordStream, receiver: ReceiverIdx) -> None:
        self._stream = stream
        self._receiver = receiver

    def write(self, rows: Sequence[Row]) -> None:
        records = np.empty(len(rows), FRAME_IDX_RECORD)
        records["recv_idx"] = self._receiver
        records["frame_idx"] = [row.idx for row in rows]
        self._stream.append(records)
