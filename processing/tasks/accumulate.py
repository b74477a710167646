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
from processing.kernels.accumulate import accumulated_dtype, choose_add, deliver, total_dtype
from processing.tasks.buffers import OutputBuffers


class _Group:
    """The sum of one group, while it grows."""

    def __init__(self, total: NDArray[Any]) -> None:
        self.lock = threading.Lock()
        self.total = total
        self.frames = 0
        self.timestamp_s = 0.0
        self.gap: Gap | None = None


class Accumulate:
    """The joint of a pipeline: ``depth`` rows become one frame.

    Sum k of receiver r gets the index k * n + r, as clients expect (contract 03, 4.4). A sum of
    fewer frames than asked, because some are missing or the run ended, is marked PARTIAL; one of
    none is a gap.

    Threads: `add` and `finish` from any; frames of one group add up one after the other.
    """

    def __init__(
        self, depth: int, spec: FrameSpec, share: Share, pools: PoolSet, buffers: int
    ) -> None:
        self.depth = depth
        self.spec = spec.changed(dtype=accumulated_dtype(spec.dtype))
        """Of the sums."""
        self._share = share
        self._total_dtype = total_dtype(spec.dtype, depth)
        self._add = choose_add(spec.dtype, self._total_dtype)
        self._buffers = OutputBuffers(self.spec, pools, buffers, "accumulated")
        self._groups: dict[int, _Group] = {}
        self._idle: list[NDArray[Any]] = []
        self._lock = threading.Lock()

    def add(self, group: int, item: Frame | Gap) -> None:
        with self._lock:
            entry = self._groups.get(group)
            if entry is None:
                entry = self._groups[group] = _Group(self._fresh_total())
        with entry.lock:
            if isinstance(item, Gap):
                entry.gap = entry.gap or item
                return
            if entry.frames == 0:
                np.copyto(entry.total, item.data)
                entry.timestamp_s = item.timestamp_s
            else:
                self._add(entry.total, item.data)
                entry.timestamp_s = min(entry.timestamp_s, item.timestamp_s)
            entry.frames += 1

    def finish(self, group: int) -> Frame | Gap:
        with self._lock:
            entry = self._groups.pop(group)
        idx = FrameIdx(group * self._share.n_receivers + self._share.receiver)
        try:
            if entry.frames == 0:
                cause = entry.gap.cause if entry.gap is not None else Validity.NEVER_SENT
                return Gap(idx, cause, "none of its frames is there")
            lease, out = self._buffers.take()
            deliver(entry.total, out)
        finally:
            with self._lock:
                self._idle.append(entry.total)
        validity = Validity.VALID if entry.frames == self.depth else Validity.PARTIAL
        return Frame(idx, out, lease, timestamp_s=entry.timestamp_s, validity=validity)

    def _fresh_total(self) -> NDArray[Any]:
        return self._idle.pop() if self._idle else np.empty(self.spec.shape, self._total_dtype)
