"""Memory for the frames that tasks make."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import FrameSpec
from lima2_core.data.memory import BufferPool, PoolSet


class OutputBuffers:
    """Gives each new frame of a task its memory, from a pool that outlives the run.

    If all slots are taken the frame gets memory of its own instead: slower, but nothing waits for
    a frame that somebody looks at.

    Threads: `take` from any.
    """

    def __init__(self, spec: FrameSpec, pools: PoolSet, wanted: int, name: str) -> None:
        self._spec = spec
        self._pool: BufferPool = pools.pool(name, spec.nbytes)
        missing = wanted - self._pool.stats().slots
        if missing > 0:
            self._pool.grow(self._pool.stats().slots + pools.fitting(spec.nbytes, missing, 0))

    def take(self) -> tuple[object, NDArray[Any]]:
        """A lease and its array, to be filled.

        Shapes: as in the spec.
        """
        lease = self._pool.lease()
        if lease is None:
            return None, np.empty(self._spec.shape, self._spec.dtype)
        return lease, lease.array(self._spec.shape, self._spec.dtype)
