"""What is new in a run: the entries of each group of numeric streams, and how many frames came."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import PRESENT, Validity
from lima2_core.data.record import RecordSpec, RecordStream
from lima2_core.errors import NotAvailableError
from lima2_core.system.ledger import Ledger
from lima2_core.system.outputs import RunView
from processing.outputs.blissdata_plan import (
    LEDGER,
    LEDGER_RECORD,
    RATE_RECORD,
    SUM_LEDGER,
    SUM_RECORD,
    Group,
    summed_source,
)

RATE_PERIOD_S = 1.0
_STEP = 2**20


class Front:
    """Counts the frames of a ledger that are settled, without those at its end never sent."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._seen = 0
        self._count = 0

    def look(self) -> int:
        """Count again."""
        front = self.ledger.front
        if front > self._seen:
            # Of frames that were asked for and not sent there may be very many.
            far = front - self._seen > _STEP
            end = max(self._seen, min(front, self.ledger.last_sent())) if far else front
            codes = self.ledger.entries(self._seen, end).code
            sent = np.flatnonzero(codes != Validity.NEVER_SENT)
            if len(sent):
                self._count = self._seen + int(sent[-1]) + 1
            self._seen = front
        return self._count


class Reader(Protocol):
    """Gives the entries of one group, in frame order."""

    def read(self) -> NDArray[Any]:
        """What is new.

        Shapes: (n,) or (n, rows) of records, possibly none.
        """
        ...

    def total(self) -> int | None:
        """Entries there will be in all, once the run is finished; None: those that were read."""
        ...

    def close(self) -> None:
        """Read no more."""
        ...


class RecordReader:
    """Records of the pipeline; those of frames never sent are left out.

    Args:
        stream: of the merged records; what comes from now on is read.
        front: of the frames that they are about; None if nobody keeps books on them.
    """

    def __init__(self, stream: RecordStream, front: Front | None) -> None:
        self._stream = stream
        self._cursor = stream.cursor()
        self._front = front
        self._spec: RecordSpec = stream.spec
        self._count = 0
        self._held = np.empty((0, self._spec.rows_per_frame), self._spec.dtype)
        self._given_up = False

    def read(self) -> NDArray[Any]:
        fresh = self._fresh()
        frames = np.concatenate((self._held, fresh)) if len(self._held) else fresh
        ready = len(frames)
        if self._front is not None:
            ready = min(ready, max(0, self._front.look() - self._count))
        self._held = frames[ready:]
        frames = self._marked(frames[:ready])
        self._count += ready
        return frames

    def total(self) -> int | None:
        if not self._given_up:
            return None
        if self._front is not None:
            return self._front.look()
        return self._stream.stats().appended // max(1, self._spec.rows_per_frame)

    def close(self) -> None:
        self._cursor.close()

    def _fresh(self) -> NDArray[Any]:
        if not self._given_up:
            try:
                return self._cursor.read().reshape(-1, self._spec.rows_per_frame)
            except NotAvailableError:
                self._given_up = True
        return np.empty((0, self._spec.rows_per_frame), self._spec.dtype)

    def _marked(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Integers as floats, so that a missing frame can have not-a-number."""
        names = [
            name for name in self._spec.dtype.names or () if self._spec.dtype[name].kind in "iu"
        ]
        values = [name for name in names if name not in ("frame_idx", "recv_idx")]
        if not values or not len(frames):
            return frames
        dtype = np.dtype(
            [
                (name, np.float64 if name in values else self._spec.dtype[name])
                for name in self._spec.dtype.names or ()
            ]
        )
        floats = frames.astype(dtype)
        if self._front is not None:
            codes = self._front.ledger.entries(self._count, self._count + len(frames)).code
            missing = ~np.isin(codes, PRESENT)
            for name in values:
                floats[name][missing] = np.nan
        return floats


class LedgerReader:
    """A ledger, as far as it is settled.

    Args:
        front: of the ledger.
        dtype: fields of the entries: class, receiver and time, or those of them that matter.
    """

    def __init__(self, front: Front, dtype: np.dtype[Any] = LEDGER_RECORD) -> None:
        self._front = front
        self._dtype = dtype
        self._count = 0
        self._told = bytearray()

    def read(self) -> NDArray[Any]:
        count = self._front.look()
        entries = self._front.ledger.entries(self._count, count)
        times = np.where(entries.timestamp_s > 0, entries.timestamp_s, np.nan)
        values = {"code": entries.code, "receiver": entries.receiver, "timestamp": times}
        records = np.empty(len(entries), self._dtype)
        for name in self._dtype.names or ():
            records[name] = values[name.rpartition("_")[2]]
        self._told += entries.code.tobytes()
        self._count = count
        return records

    def corrected(self) -> list[tuple[int, int]]:
        """Index and class of frames that were told of with another class."""
        told = np.frombuffer(bytes(self._told), np.uint8)
        now = self._front.ledger.entries(0, len(told)).code
        return [(int(idx), int(now[idx])) for idx in np.flatnonzero(told != now)]

    def total(self) -> int | None:
        return None

    def close(self) -> None:
        return


class RateReader:
    """How fast it goes: one entry per period, and one at the end."""

    def __init__(self, run: RunView) -> None:
        self._run = run
        self._saved = next(iter(run.saved.values()), None)
        self._last_s = 0.0
        self._last = (0, 0)
        self._ended = False

    def read(self) -> NDArray[Any]:
        none = np.empty(0, RATE_RECORD)
        started_wall_s = self._run.started_wall_s()
        if not started_wall_s or self._ended:
            return none
        now_s = time.time() - started_wall_s
        finished = self._run.finished()
        since_s = now_s - self._last_s
        if since_s < RATE_PERIOD_S and not finished:
            return none
        counts = self._counts()
        record = np.empty(1, RATE_RECORD)
        record["elapsed_time"] = now_s
        since_s = max(since_s, 1e-3)
        record["frame_rate"] = (counts[0] - self._last[0]) / since_s
        record["saving_rate"] = (counts[1] - self._last[1]) / since_s
        self._last_s, self._last, self._ended = now_s, counts, finished
        return record

    def total(self) -> int | None:
        return None

    def close(self) -> None:
        return

    def _counts(self) -> tuple[int, int]:
        """Frames that came, and frames that are safe in files."""
        counts = self._run.ledger.summary().counts
        came = sum(counts.get(code, 0) for code in PRESENT)
        if self._saved is None:
            return came, 0
        rows = sum(self._saved.flushed(n) for n in range(len(self._run.receivers)))
        return came, rows // max(1, len(self._saved.placements))


def front_of(run: RunView, source: str) -> Front | None:
    """Counts the frames of a source; None for sums that are not saved: nobody keeps books on them.

    Ledgers of saved sources tell of sums what the ledger of the run tells of frames.
    """
    if run.depth_of(source) == 1:
        return Front(run.ledger)
    saved = run.saved.get(source)
    return Front(saved.ledger) if saved is not None else None


def _front_of_records(run: RunView, stream: str) -> Front | None:
    """The same for the frames that records are about: all sums of a run have the same indices."""
    if run.depth_of(stream) == 1:
        return Front(run.ledger)
    source = summed_source(run)
    return front_of(run, source) if source is not None else None


def reader_of(run: RunView, group: Group) -> Reader:
    """What reads a group; it sees all that comes from now on."""
    if group.spec is not None:
        return RecordReader(run.streams[group.name], _front_of_records(run, group.name))
    if group.name == LEDGER:
        return LedgerReader(Front(run.ledger))
    if group.name == SUM_LEDGER and (source := summed_source(run)) is not None:
        return LedgerReader(Front(run.saved[source].ledger), SUM_RECORD)
    return RateReader(run)
