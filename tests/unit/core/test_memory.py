import gc
import mmap
import os
import subprocess
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest

from lima2_core.data.frame import Frame
from lima2_core.data.memory import BufferPool, PoolHandle, PoolSet, map_slots
from lima2_core.ids import FrameIdx
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.worker import Worker

PAGE = mmap.PAGESIZE


def pool_of(slots, slot_bytes=PAGE):
    pool = BufferPool(slot_bytes)
    pool.grow(slots)
    return pool


def memory_files():
    """Memory files that are open, by their inodes; what else the process opens is not counted."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed by now
            if os.readlink(f"/proc/self/fd/{number}").startswith("/memfd:"):
                found.add(os.stat(f"/proc/self/fd/{number}").st_ino)
    return found


@pytest.fixture
def start_python():
    def start(code, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return start


@pytest.mark.parametrize(
    ("asked", "given"), [(0, PAGE), (1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)]
)
def test_slots_are_whole_pages(asked, given):
    pool = pool_of(2, asked)

    views = [pool.lease().view for _ in range(2)]

    assert pool.slot_bytes == given
    for view in views:
        assert view.size == given
        assert view.ctypes.data % PAGE == 0


def test_a_new_pool_is_empty():
    assert BufferPool(PAGE).lease() is None


def test_a_lease_comes_back_with_the_last_reference():
    pool = pool_of(1)
    lease = pool.lease()
    frame = Frame(FrameIdx(0), lease.array((1, 2, 2), np.uint8), lease)
    del lease

    assert pool.lease() is None
    kept = [frame]
    del frame
    assert pool.lease() is None
    kept.clear()
    assert pool.lease() is not None


def test_a_lease_in_a_cycle_comes_back_with_the_garbage():
    pool = pool_of(1)
    cycle = [pool.lease()]
    cycle.append(cycle)
    del cycle

    gc.collect()

    assert pool.stats().in_use == 0


def test_an_array_is_the_beginning_of_the_slot():
    pool = pool_of(1)
    lease = pool.lease()

    pixels = lease.array((1, 2, 3), np.uint16)
    pixels[...] = [[[1, 2, 3], [4, 5, 6]]]

    assert pixels.shape == (1, 2, 3)
    assert lease.view[:12].view(np.uint16).tolist() == [1, 2, 3, 4, 5, 6]


def test_each_lease_of_a_slot_is_another_generation():
    pool = pool_of(1)

    seen = []
    for _ in range(3):
        lease = pool.lease()
        seen.append((lease.slot, lease.generation))
        del lease

    assert len(set(seen)) == 3
    assert {slot for slot, _ in seen} == {0}


def test_growing_adds_what_is_missing_and_leaves_the_rest_alone():
    pool = pool_of(2)
    first = pool.lease()
    first.view[:] = 7

    pool.grow(5)
    pool.grow(3)
    others = [pool.lease() for _ in range(4)]
    for other in others:
        other.view[:] = 9

    assert pool.stats().slots == 5
    assert pool.lease() is None
    assert {lease.slot for lease in (first, *others)} == set(range(5))
    assert np.all(first.view == 7)


def test_memory_that_the_system_has_not_is_an_error_that_tells_how_much():
    pool = BufferPool(2**60)
    files = memory_files()

    with pytest.raises(MemoryError, match=r"MiB for 2 frames buffers"):
        pool.grow(2)

    assert pool.stats().slots == 0
    assert memory_files() <= files


def test_a_lease_waits_for_a_slot_only_as_long_as_it_may():
    pool = pool_of(1)
    held = pool.lease()

    assert pool.lease(timeout_s=0.01) is None
    assert held.slot == 0
    assert pool.stats().waits == 1


def test_a_lease_waits_for_the_slot_that_another_thread_returns():
    pool = pool_of(1)
    held = [pool.lease()]
    got = []
    waiter = Worker("waiter", lambda: got.append(pool.lease(timeout_s=None).slot))
    assert eventually(lambda: pool.stats().waits == 1)

    held.clear()

    assert waiter.join(LIMIT_S)
    assert got == [0]


def test_stats_tell_use_and_peak():
    pool = pool_of(4)
    leases = [pool.lease() for _ in range(3)]
    leases.pop()
    stats = pool.stats()

    assert (stats.slots, stats.in_use, stats.peak, stats.leases, stats.waits) == (4, 2, 3, 3, 0)
    assert (stats.slot_bytes, stats.total_bytes) == (PAGE, 4 * PAGE)


def test_touching_leaves_all_slots_free_and_those_in_use_alone():
    pool = pool_of(3)
    held = pool.lease()
    held.view[:] = 5

    pool.touch()

    assert pool.stats().in_use == pool.stats().peak == 1
    assert np.all(held.view == 5)
    assert {lease.slot for lease in (pool.lease(), held, pool.lease())} == {0, 1, 2}


def test_no_slot_is_given_to_two_threads():
    pool = pool_of(3)
    clashes = []

    def use(mark):
        for _ in range(300):
            lease = pool.lease(timeout_s=LIMIT_S)
            lease.view[:8] = mark
            if not np.all(lease.view[:8] == mark):
                clashes.append(mark)
            lease = None

    workers = [Worker(f"user-{mark}", lambda mark=mark: use(mark)) for mark in range(6)]

    assert all(worker.join(LIMIT_S) for worker in workers)
    assert clashes == []
    assert pool.stats().in_use == 0
    assert pool.stats().peak <= 3


def test_a_pool_that_is_gone_leaves_no_file_open():
    files = memory_files()
    pool = pool_of(2)
    pool.grow(3)
    own = memory_files() - files
    assert len(own) == 2

    del pool

    assert own.isdisjoint(memory_files())


READER = """
import sys
from lima2_core.data.memory import PoolHandle, map_slots
pid, slot_bytes, *segments = map(int, sys.argv[1:])
handle = PoolHandle(pid, slot_bytes, tuple(zip(segments[::2], segments[1::2])))
slots = map_slots(handle)
print(len(slots), *(int(slot[0]) for slot in slots), flush=True)
slots[-1][-1] = 77
"""


def test_another_process_sees_the_pixels_and_writes_them(start_python):
    pool = pool_of(2, 3 * PAGE)
    pool.grow(3)
    leases = [pool.lease() for _ in range(3)]
    for lease in leases:
        lease.view[0] = 10 + lease.slot
    handle = pool.handle()
    segments = [str(number) for segment in handle.segments for number in segment]

    output = start_python(READER, str(handle.pid), str(handle.slot_bytes), *segments)

    assert output.split() == ["3", "10", "11", "12"]
    last = next(lease for lease in leases if lease.slot == 2)
    assert last.view[-1] == 77


def test_the_pool_of_a_process_that_is_gone_cannot_be_mapped(start_python):
    pid = int(start_python("import os; print(os.getpid())"))

    with pytest.raises(OSError, match="No such file"):
        map_slots(PoolHandle(pid, PAGE, ((3, 1),)))


def test_a_set_gives_the_same_pool_for_the_same_name_and_size():
    pools = PoolSet(10 * PAGE)

    assert pools.pool("frames", PAGE - 1) is pools.pool("frames", PAGE)
    assert pools.pool("frames", PAGE) is not pools.pool("chunks", PAGE)
    assert pools.pool("frames", PAGE) is not pools.pool("frames", PAGE + 1)


def test_a_set_allows_what_fits_beside_all_its_pools():
    pools = PoolSet(10 * PAGE)
    pools.pool("frames", PAGE).grow(4)
    pools.pool("chunks", 2 * PAGE).grow(1)

    assert pools.fitting(PAGE, wanted=3) == 3
    assert pools.fitting(PAGE, wanted=100) == 4
    assert pools.fitting(2 * PAGE, wanted=100) == 2
    with pytest.raises(MemoryError, match=r"5 buffers of .* MiB do not fit"):
        pools.fitting(PAGE, wanted=100, least=5)


def test_what_a_set_allows_really_fits_although_slots_are_whole_pages():
    pools = PoolSet(10 * PAGE)

    count = pools.fitting(1, wanted=100)
    pools.pool("frames", 1).grow(count)

    assert count == 10
    assert sum(stats.total_bytes for stats in pools.stats().values()) <= pools.limit_bytes


def test_a_full_set_has_room_again_once_idle_pools_are_trimmed():
    pools = PoolSet(4 * PAGE)
    pools.pool("frames", PAGE).grow(4)
    with pytest.raises(MemoryError):
        pools.fitting(PAGE, wanted=1)

    pools.trim()

    assert pools.fitting(PAGE, wanted=4) == 4
    assert pools.stats() == {}


def test_trimming_spares_the_pools_that_are_in_use():
    pools = PoolSet(4 * PAGE)
    pools.pool("frames", PAGE).grow(1)
    lease = pools.pool("frames", PAGE).lease()

    pools.trim()

    assert list(pools.stats()) == [f"frames/{PAGE}"]
    assert pools.stats()[f"frames/{PAGE}"].in_use == 1
    del lease


def test_a_set_makes_one_pool_when_many_threads_ask_at_once():
    pools = PoolSet(10 * PAGE)
    together = threading.Barrier(4)
    got = []

    def ask():
        together.wait(LIMIT_S)
        got.append(pools.pool("frames", PAGE))

    workers = [Worker(f"asker-{n}", ask) for n in range(4)]

    assert all(worker.join(LIMIT_S) for worker in workers)
    assert len({id(pool) for pool in got}) == 1


def test_the_outlook_of_a_pool_counts_what_others_have_taken_and_makes_none():
    pools = PoolSet(10 * PAGE)
    assert pools.outlook("a", PAGE) == (0, 10)
    assert pools.stats() == {}
    pools.pool("b", PAGE).grow(3)
    pools.pool("a", 2 * PAGE).grow(2)
    lease = pools.pool("a", 2 * PAGE).lease()

    assert pools.outlook("a", 2 * PAGE) == (1, 3)
    assert pools.outlook("a", PAGE) == (0, 3)
    del lease
    assert pools.outlook("a", PAGE + 1) == (0, 3)
