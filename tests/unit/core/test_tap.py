import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.memory import BufferPool
from lima2_core.errors import NotAvailableError
from lima2_core.flow.sink import Row
from lima2_core.flow.tap import Tap, TapStats
from lima2_core.ids import FrameIdx, LocalIdx
from lima2_core.testing.doubles import LIMIT_S
from lima2_core.testing.fake_camera import pixels_of
from lima2_core.worker import Worker

SPEC = FrameSpec((1, 2, 3), np.dtype(np.uint16))


def row(local, idx=None, **details):
    idx = local if idx is None else idx
    return Row(
        LocalIdx(local),
        FrameIdx(idx),
        Frame(FrameIdx(idx), pixels_of(idx), **{"keepable": True, **details}),
    )


def gap_row(local):
    return Row(LocalIdx(local), FrameIdx(local), Gap(FrameIdx(local), Validity.DROPPED))


def rows(*locals_):
    return [row(local) for local in locals_]


def kept_in(tap, among=range(100)):
    kept = []
    for idx in among:
        try:
            kept.append(tap.get(idx).idx)
        except NotAvailableError:
            continue
    return kept


def test_the_newest_frames_are_kept():
    tap = Tap(SPEC, depth=3)

    tap.write(rows(0, 1))
    tap.write(rows(2, 3, 4))

    assert kept_in(tap) == [2, 3, 4]
    assert tap.get(3).data.tolist() == pixels_of(3).tolist()


@pytest.mark.parametrize("batch", [1, 2, 5, 20])
def test_one_of_every_sampling_is_kept_however_they_come(batch):
    tap = Tap(SPEC, depth=2, sampling=3)

    for first in range(0, 20, batch):
        tap.write(rows(*range(first, first + batch)))

    assert kept_in(tap) == [15, 18]
    assert tap.last_idx == 18


def test_frames_are_found_by_their_global_index():
    # The second of two receivers: its third row is frame 5.
    tap = Tap(SPEC, depth=4)

    tap.write([row(local, idx=2 * local + 1) for local in range(3)])

    assert kept_in(tap) == [1, 3, 5]


def test_minus_one_is_the_newest():
    tap = Tap(SPEC, depth=2)
    tap.write(rows(0, 1, 2))

    assert tap.get(-1).idx == 2


def test_before_the_first_frame_nothing_is_available_yet():
    tap = Tap(SPEC, depth=2)

    assert tap.last_idx == -1
    # blissdata looks for these words (contract 03).
    with pytest.raises(NotAvailableError, match="not available yet"):
        tap.get(-1)
    with pytest.raises(NotAvailableError, match="frame 0 is not available yet"):
        tap.get(0)


def test_an_expired_frame_is_refused_and_the_message_tells_what_is_kept():
    tap = Tap(SPEC, depth=2)
    tap.write(rows(*range(10)))

    with pytest.raises(NotAvailableError, match="frame 3 is not available: kept are 8 to 9") as e:
        tap.get(3)
    assert e.value.details["frame_idx"] == 3
    with pytest.raises(NotAvailableError, match="frame 10 is not available yet"):
        tap.get(10)


def test_gaps_are_not_kept():
    tap = Tap(SPEC, depth=2)

    tap.write([row(0), gap_row(1), row(2), gap_row(3)])

    assert kept_in(tap) == [0, 2]
    assert tap.get(-1).idx == 2
    with pytest.raises(NotAvailableError, match="frame 1 is not available"):
        tap.get(1)


def test_gaps_at_the_end_of_a_batch_do_not_hide_the_frames_before_them():
    tap = Tap(SPEC, depth=2)

    tap.write([row(0), row(1), row(2), gap_row(3), gap_row(4), gap_row(5)])

    assert kept_in(tap) == [1, 2]
    assert tap.last_idx == 2


def test_products_are_not_kept():
    tap = Tap(SPEC, depth=2)

    tap.write([Row(LocalIdx(0), FrameIdx(0), {"sum": 1})])

    assert tap.stats() == TapStats(kept=0, depth=2, seen=1, last_idx=-1)


def test_a_frame_that_may_be_kept_is_kept_itself():
    pool = BufferPool(100)
    pool.grow(1)
    lease = pool.lease()
    frame = Frame(FrameIdx(0), lease.array((1, 2, 3), np.uint16), lease, keepable=True)
    tap = Tap(SPEC, depth=1)

    tap.write([Row(LocalIdx(0), FrameIdx(0), frame)])
    del lease

    assert tap.get(0) is frame
    del frame
    assert pool.stats().in_use == 1
    tap.clear()
    assert pool.stats().in_use == 0


def borrowed(pool, idx):
    """A frame in a buffer of a detector, which wants it back."""
    lease = pool.lease()
    data = lease.array((1, 2, 3), np.uint16)
    data[...] = idx
    frame = Frame(FrameIdx(idx), data, lease, keepable=False, timestamp_s=1.5)
    return Row(LocalIdx(idx), FrameIdx(idx), frame)


@pytest.mark.parametrize("with_pool", [True, False])
def test_a_frame_that_may_not_be_kept_is_copied(with_pool):
    detector, copies = BufferPool(100), BufferPool(100)
    detector.grow(2)
    copies.grow(2)
    tap = Tap(SPEC, depth=2, pool=copies if with_pool else None)

    for idx in range(5):
        tap.write([borrowed(detector, idx)])

    assert detector.stats().in_use == 0
    assert copies.stats().in_use == (2 if with_pool else 0)
    for idx in (3, 4):
        assert tap.get(idx).data.tolist() == pixels_of(idx).tolist()
        assert tap.get(idx).timestamp_s == 1.5
        assert tap.get(idx).keepable


def test_a_copy_finds_a_place_even_while_readers_hold_the_earlier_ones():
    detector, copies = BufferPool(100), BufferPool(100)
    detector.grow(1)
    copies.grow(1)
    tap = Tap(SPEC, depth=1, pool=copies)
    tap.write([borrowed(detector, 0)])
    held = tap.get(0)

    tap.write([borrowed(detector, 1)])

    assert held.data.tolist() == pixels_of(0).tolist()
    assert tap.get(1).data.tolist() == pixels_of(1).tolist()


def test_stats_tell_what_is_kept_and_seen():
    tap = Tap(SPEC, depth=2, sampling=2)
    tap.write(rows(*range(7)))

    assert tap.stats() == TapStats(kept=2, depth=2, seen=7, last_idx=6)


def test_after_clearing_no_frame_is_kept_and_the_message_says_so():
    tap = Tap(SPEC, depth=2)
    tap.write(rows(0, 1))

    tap.clear()

    with pytest.raises(NotAvailableError, match="frame 1 is not available: none is kept"):
        tap.get(1)
    assert tap.last_idx == 1


def test_looking_while_frames_come_never_gives_another_frame():
    tap = Tap(SPEC, depth=3)
    wrong = []
    tap.write(rows(0))

    def write():
        for first in range(1, 1000, 2):
            tap.write(rows(first, first + 1))

    writer = Worker("writer", write)
    while writer.alive:
        newest = tap.get(-1)
        if newest.data[0, 0, 0] != newest.idx:
            wrong.append(newest.idx)

    assert writer.join(LIMIT_S)
    assert wrong == []
    assert kept_in(tap, range(990, 1010)) == [998, 999, 1000]
