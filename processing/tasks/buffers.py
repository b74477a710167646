"""Memory for the frames that tasks make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import FrameSpec
from lima2_core.data.memory import BufferPool, PoolSet


def grow_within(pools: PoolSet, pool: BufferPool, wanted: int) -> None:
    """Let ``pool`` have ``wanted`` slots, or as many more as half of what is left is good for.

    The other half is for the camera, which takes its share later.
    """
    slots = pool.stats().slots
    missing = wanted - slots
    if missing > 0:
        half = pools.fitting(pool.slot_bytes, 2 * missing, least=0) // 2
        pool.grow(slots + half)


class OutputBuffers:
    """Gives each new frame of a task its memory, from a pool that outlives the run.

    If all slots are taken, ``make_room`` may give up a frame that is only kept to be looked at.
    If that does not help, the frame gets memory of its own: slower, but nothing waits for a frame
    that somebody holds.

    Threads: `take` from any.
    """

    def __init__(self, spec: FrameSpec, pools: PoolSet, wanted: int, name: str) -> None:
        self._spec = spec
        self._pools = pools
        self._wanted = wanted
        self._pool = pools.pool(name, spec.nbytes)
        self.make_room: Callable[[], object] | None = None

    def reserve(self) -> None:
        """Provide the slots, once it is sure that the run can be built."""
        grow_within(self._pools, self._pool, self._wanted)

    def take(self) -> tuple[object, NDArray[Any]]:
        """A lease and its array, to be filled.

        Shapes: as in the spec.
        """
        lease = self._pool.lease()
        if lease is None and self.make_room is not None:
            self.make_room()
            lease = self._pool.lease()
        if lease is None:
            return None, np.empty(self._spec.shape, self._spec.dtype)
        return lease, lease.array(self._spec.shape, self._spec.dtype)
