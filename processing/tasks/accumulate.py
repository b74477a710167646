"""Sum consecutive frames of a receiver into one."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.camera.dispatch import Share
from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.memory import PoolSet
from lima2_core.ids import FrameIdx
from processing.kernels.accumulate import (
    Add,
    accumulated_dtype,
    add_into,
    choose_add,
    choose_marked_add,
    deliver,
    total_dtype,
)
from processing.kernels.marks import Marks
from processing.tasks.buffers import OutputBuffers

_Total = tuple[object, NDArray[Any]]
"""A lease and its array."""


class _Group:
    """The sums of one group, while they grow."""

    def __init__(self) -> None:
        self.totals: list[_Total] = []
        """Sums that nobody is adding to: each thread takes one of its own."""
        self.frames = 0
        self.whole = True
        self.timestamp_s = float("inf")
        self.gap: Gap | None = None


class Accumulate:
    """The joint of a pipeline: ``depth`` rows become one frame.

    Sum k of receiver r gets the index k * n + r, as clients expect (contract 03, 4.4). A sum is
    marked PARTIAL if frames are missing or partial themselves, or the run ended within it; a sum
    of no frame is a gap.

    Where a pixel has no value in one of the frames, the sum has none; where it is saturated in one,
    or the sum does not fit, it is saturated.

    Args:
        marks: of the frames, if some of their values are no measurements.

    Threads: `add` and `finish` from any.
    """

    def __init__(
        self,
        depth: int,
        spec: FrameSpec,
        share: Share,
        pools: PoolSet,
        buffers: int,
        workers: int = 1,
        marks: Marks | None = None,
    ) -> None:
        self.depth = depth
        self.spec = spec.changed(dtype=accumulated_dtype(spec.dtype))
        """Of the sums."""
        self._share = share
        wide = spec.changed(dtype=total_dtype(spec.dtype, depth))
        self._add = choose_add(spec.dtype, wide.dtype)
        self._join: Add = add_into
        self._translates = marks is not None and spec.dtype.kind in "iu"
        if marks is not None and self._translates:
            self._add = choose_marked_add(marks, wide.dtype)
            self._join = choose_marked_add(marks.to(wide.dtype), wide.dtype)
        self.buffers = OutputBuffers(self.spec, pools, buffers, "accumulated")
        # A group grows in one sum for each thread, and threads may be at work on two groups.
        self.totals = OutputBuffers(wide, pools, 2 * workers, "totals")
        self._groups: dict[int, _Group] = {}
        self._lock = threading.Lock()

    def add(self, group: int, item: Frame | Gap) -> None:
        with self._lock:
            entry = self._groups.setdefault(group, _Group())
            if isinstance(item, Gap):
                entry.gap = entry.gap or item
                return
            entry.frames += 1
            entry.whole = entry.whole and item.validity is Validity.VALID
            entry.timestamp_s = min(entry.timestamp_s, item.timestamp_s)
            total = entry.totals.pop() if entry.totals else None
        if total is not None:
            self._add(total[1], item.data)
        else:
            total = self.totals.take()
            if self._translates:  # the marks of the frame are not those of the sum
                total[1].fill(0)
                self._add(total[1], item.data)
            else:
                np.copyto(total[1], item.data)
        with self._lock:
            entry.totals.append(total)

    def index(self, group: int) -> FrameIdx:
        return FrameIdx(group * self._share.n_receivers + self._share.receiver)

    def finish(self, group: int) -> Frame | Gap:
        with self._lock:
            entry = self._groups.pop(group)
        idx = self.index(group)
        if entry.frames == 0:
            cause = entry.gap.cause if entry.gap is not None else Validity.NEVER_SENT
            return Gap(idx, cause, "none of its frames is there")
        (_, total), *others = entry.totals
        for _, other in others:
            self._join(total, other)
        lease, out = self.buffers.take()
        deliver(total, out)
        whole = entry.whole and entry.frames == self.depth
        validity = Validity.VALID if whole else Validity.PARTIAL
        return Frame(
            idx, out, lease, keepable=True, timestamp_s=entry.timestamp_s, validity=validity
        )
