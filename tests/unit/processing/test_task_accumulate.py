import threading

import numpy as np
import pytest

from lima2_core.camera.dispatch import Share
from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.memory import PoolSet
from lima2_core.testing.doubles import LIMIT_S
from lima2_core.worker import Worker
from processing.tasks.accumulate import Accumulate


def joint(depth, dtype=np.uint16, workers=1):
    spec = FrameSpec((1, 8, 9), np.dtype(dtype))
    made = Accumulate(depth, spec, Share(), PoolSet(2**24), 4, workers)
    made.buffers.reserve()
    made.totals.reserve()
    return made


def frames(n, dtype=np.uint16):
    images = np.random.default_rng(3).integers(0, 100, (n, 1, 8, 9)).astype(dtype)
    return images, [Frame(idx, image, timestamp_s=10.0 - idx) for idx, image in enumerate(images)]


@pytest.mark.parametrize(
    ("dtype", "summed"),
    [("u1", "u4"), ("i2", "i4"), ("u4", "u4"), ("f4", "f4"), ("f8", "f4")],
)
def test_sums_have_a_type_that_the_wire_knows(dtype, summed):
    assert joint(10, dtype).spec.dtype == np.dtype(summed)


def test_a_sum_beyond_its_type_reads_as_the_largest_value():
    accumulate = joint(2, np.uint32)
    image = np.full((1, 8, 9), 2**31 + 5, np.uint32)
    for idx in range(2):
        accumulate.add(0, Frame(idx, image))

    assert set(accumulate.finish(0).data.flat) == {2**32 - 1}


def test_a_sum_begins_with_its_first_frame_whichever_came_first():
    images, members = frames(3)
    accumulate = joint(3)

    for frame in members:
        accumulate.add(0, frame)
    result = accumulate.finish(0)

    assert result.timestamp_s == 8.0
    assert result.data.tolist() == images.sum(0).tolist()


def test_groups_grow_side_by_side():
    images, members = frames(4)
    accumulate = joint(2)

    for n in (0, 2, 3, 1):
        accumulate.add(n // 2, members[n])

    assert accumulate.finish(1).data.tolist() == images[2:].sum(0).tolist()
    assert accumulate.finish(0).data.tolist() == images[:2].sum(0).tolist()


def test_many_threads_sum_up_one_group_and_nothing_is_lost():
    images, members = frames(400)
    accumulate = joint(400, workers=4)
    together = threading.Barrier(4)

    def work(part):
        together.wait(LIMIT_S)
        for frame in part:
            accumulate.add(0, frame)

    threads = [Worker("adder", lambda n=n: work(members[n::4])) for n in range(4)]
    assert all(thread.join(LIMIT_S) for thread in threads)

    assert accumulate.finish(0).data.tolist() == images.sum(0).tolist()


def test_a_group_of_gaps_has_the_cause_of_the_first():
    accumulate = joint(2)
    accumulate.add(0, Gap(0, Validity.OVERRUN))
    accumulate.add(0, Gap(1, Validity.DROPPED))

    gap = accumulate.finish(0)

    assert isinstance(gap, Gap)
    assert gap.cause is Validity.OVERRUN


def test_memory_of_sums_goes_back():
    pools = PoolSet(2**24)
    spec = FrameSpec((1, 8, 9), np.dtype(np.uint16))
    accumulate = Accumulate(2, spec, Share(), pools, 4)
    accumulate.buffers.reserve()
    accumulate.totals.reserve()
    _, members = frames(2)
    for frame in members:
        accumulate.add(0, frame)

    result = accumulate.finish(0)

    assert result.lease is not None
    assert sum(stats.in_use for stats in pools.stats().values()) == 1  # the result alone
