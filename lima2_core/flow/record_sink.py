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
        records = [
            self._missing(row.idx) if row.gap is not None else np.asarray(row.value) for row in rows
        ]
        if len(records) > 1:
            # A hundred times faster than numpy, which looks at each field of structured arrays.
            records = [
                np.frombuffer(b"".join(record.data for record in records), self._stream.spec.dtype)
            ]
        self._stream.append(records[0])


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
