"""Points where one can look at the flow: the newest frames of one place, by index."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.memory import BufferPool
from lima2_core.errors import NotAvailableError
from lima2_core.flow.sink import Row, Sink
from lima2_core.ids import FrameIdx


@dataclass(frozen=True, slots=True)
class TapStats:
    """A snapshot: frames kept, frames that may be kept, frames seen, index of the newest."""

    kept: int
    depth: int
    seen: int
    last_idx: int


class Tap(Sink):
    """Keeps the newest ``depth`` frames, one of every ``sampling``.

    Frames that may be kept are referenced; others (buffers of a detector, which the source needs
    back) are copied into ``pool``, for which ``reserve`` provides slots once the first one comes.
    With ``hold`` all are referenced: the source can do without ``depth`` of them.

    Threads: `write` from one thread at a time; look-ups from any.
    """

    name = "tap"

    def __init__(
        self,
        spec: FrameSpec,
        depth: int,
        sampling: int = 1,
        pool: BufferPool | None = None,
        reserve: Callable[[], None] | None = None,
        *,
        hold: bool = False,
    ) -> None:
        self._hold = hold
        self.spec = spec
        self.depth = max(1, depth)
        self.sampling = max(1, sampling)
        self._pool = pool
        self._reserve = reserve
        self._frames: OrderedDict[FrameIdx, Frame] = OrderedDict()
        self._seen = 0
        self._last_idx = -1
        self._passed_idx = -1
        self._lock = threading.Lock()

    def write(self, rows: Sequence[Row]) -> None:
        frames = self._frames
        # Of a long batch only the end can stay, so only the end is touched.
        with self._lock:
            self._seen += len(rows)
            self._passed_idx = max(self._passed_idx, rows[-1].idx)
            for frame in reversed(list(islice(self._newest_first(rows), self.depth))):
                while len(frames) >= self.depth:
                    frames.popitem(last=False)
                kept = frame.keepable or self._hold
                frames[frame.idx] = frame if kept else self._copied(frame)
                self._last_idx = frame.idx

    def _newest_first(self, rows: Sequence[Row]) -> Iterator[Frame]:
        for row in reversed(rows):
            if isinstance(row.value, Frame) and row.local % self.sampling == 0:
                yield row.value

    def _copied(self, frame: Frame) -> Frame:
        if self._reserve is not None:
            self._reserve()
            self._reserve = None
        lease = self._pool.lease() if self._pool is not None else None
        if lease is None:
            return replace(frame, data=frame.data.copy(), lease=None, keepable=True)
        data = lease.array(frame.data.shape, frame.data.dtype)
        np.copyto(data, frame.data)
        return replace(frame, data=data, lease=lease, keepable=True)

    def get(self, idx: int) -> Frame:
        """The frame of a global index; -1 is the newest.

        Raises:
            NotAvailableError: not yet, not any more, or never kept.
        """
        with self._lock:
            if idx == -1:
                if not self._frames:
                    raise NotAvailableError("the first frame is not available yet", frame_idx=idx)
                return next(reversed(self._frames.values()))
            frame = self._frames.get(FrameIdx(idx))
            if frame is not None:
                return frame
            if idx > self._passed_idx:
                raise NotAvailableError(f"frame {idx} is not available yet", frame_idx=idx)
            kept = "none is kept"
            if self._frames:
                some = f", one of {self.sampling}" if self.sampling > 1 else ""
                kept = f"kept are {next(iter(self._frames))} to {self._last_idx}{some}"
            raise NotAvailableError(f"frame {idx} is not available: {kept}", frame_idx=idx)

    @property
    def last_idx(self) -> int:
        """Index of the newest frame; -1 while there is none."""
        return self._last_idx

    def stats(self) -> TapStats:
        with self._lock:
            return TapStats(len(self._frames), self.depth, self._seen, self._last_idx)

    def drop_oldest(self) -> None:
        """Let go of the oldest frame, but not of the last one: somebody needs its memory."""
        with self._lock:
            if len(self._frames) > 1:
                self._frames.popitem(last=False)

    def clear(self) -> None:
        """Let go of all frames."""
        with self._lock:
            self._frames.clear()
