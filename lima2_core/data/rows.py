"""Which frame stands in which row: what receivers tell about every frame they had to do with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lima2_core.data.frame import Gap, Validity
from lima2_core.data.record import RecordStream
from lima2_core.flow.sink import Row, Sink

ROW_RECORD = np.dtype(
    [("frame_idx", "<i8"), ("row", "<i8"), ("timestamp_s", "<f8"), ("code", "u1")]
)
"""One frame of a receiver: its index, its row there (-1: none), and its `Validity`."""

LEDGER = "ledger"
"""Name of the stream in which a run tells about every frame as it came out of the chain."""


def gap_rows(gaps: Sequence[Gap]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Rows of gaps that have no place in the order of the receiver."""
    rows = np.zeros(len(gaps), ROW_RECORD)
    rows["frame_idx"] = [gap.idx for gap in gaps]
    rows["code"] = [gap.cause for gap in gaps]
    rows["row"] = -1
    return rows


class RowSink(Sink):
    """Tells which frame every row is, and whether it is there."""

    name = "rows"

    def __init__(self, stream: RecordStream) -> None:
        self._stream = stream

    def write(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        values = [row.value for row in rows]
        records = np.empty(len(rows), ROW_RECORD)
        records["frame_idx"] = [row.idx for row in rows]
        records["row"] = np.arange(rows[0].local, rows[0].local + len(rows))
        records["timestamp_s"] = [getattr(value, "timestamp_s", 0.0) for value in values]
        records["code"] = [_code(value) for value in values]
        self._stream.append(records)


def _code(value: object) -> Validity:
    """The class of what stands in a row: a frame, a product of one, or a gap."""
    if isinstance(value, Gap):
        return value.cause
    validity: Validity = getattr(value, "validity", Validity.VALID)
    return validity
