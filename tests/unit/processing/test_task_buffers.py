"""Where the frames that tasks make have their memory, and who makes room."""

import numpy as np

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.memory import PoolSet
from lima2_core.flow.sink import Row
from lima2_core.flow.tap import Tap
from processing.tasks.buffers import OutputBuffers, grow_within

SPEC = FrameSpec((1, 64, 64), np.dtype(np.uint8))  # one page


def reserved(pools, wanted):
    buffers = OutputBuffers(SPEC, pools, wanted, "made")
    buffers.reserve()
    return buffers


def kept(tap, buffers, idx):
    """A frame from ``buffers``, kept by ``tap``."""
    lease, data = buffers.take()
    tap.write([Row(idx, idx, Frame(idx, data, lease, keepable=True))])
    return lease is not None


def test_slots_are_reserved_when_asked_and_not_before():
    pools = PoolSet(2**20)
    buffers = OutputBuffers(SPEC, pools, 5, "made")
    pool = pools.pool("made", SPEC.nbytes)

    assert pool.stats().slots == 0
    buffers.reserve()
    assert pool.stats().slots == 5
    reserved(pools, 3)
    assert pool.stats().slots == 5


def test_a_frame_has_the_shape_and_type_of_the_spec_and_a_lease():
    lease, data = reserved(PoolSet(2**20), 1).take()

    assert lease is not None
    assert (data.shape, data.dtype) == (SPEC.shape, SPEC.dtype)


def test_without_a_free_slot_a_frame_has_memory_of_its_own():
    buffers = reserved(PoolSet(2**20), 1)
    held = buffers.take()

    lease, data = buffers.take()

    assert held[0] is not None
    assert lease is None
    assert data.shape == SPEC.shape


def test_half_of_what_is_left_stays_free():
    pools = PoolSet(10 * 4096)
    pool = pools.pool("made", SPEC.nbytes)

    grow_within(pools, pool, 100)
    assert pool.stats().slots == 5
    grow_within(pools, pool, 100)
    assert pool.stats().slots == 7


def test_frames_that_are_only_looked_at_make_room_one_by_one():
    buffers = reserved(PoolSet(2**20), 4)
    tap = Tap(SPEC, depth=100)
    buffers.make_room = tap.drop_oldest

    assert all(kept(tap, buffers, idx) for idx in range(20))

    assert tap.stats().kept == 4
    assert tap.get(16).idx == 16
    tap.clear()


def test_the_newest_frame_stays_whoever_needs_room():
    buffers = reserved(PoolSet(2**20), 1)
    tap = Tap(SPEC, depth=100)
    buffers.make_room = tap.drop_oldest
    kept(tap, buffers, 0)

    lease, _ = buffers.take()

    assert lease is None
    assert tap.get(-1).idx == 0
    tap.clear()


def test_a_tap_reserves_for_copies_once_the_first_frame_has_to_be_copied():
    asked = []
    tap = Tap(SPEC, depth=2, reserve=lambda: asked.append(1))
    data = np.zeros(SPEC.shape, np.uint8)

    tap.write([Row(0, 0, Frame(0, data, keepable=True))])
    assert asked == []
    for idx in (1, 2):
        tap.write([Row(idx, idx, Frame(idx, data, keepable=False))])
    assert asked == [1]
