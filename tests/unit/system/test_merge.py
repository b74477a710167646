import numpy as np
import pytest

from lima2_core.data.record import RecordSpec
from lima2_core.errors import NotAvailableError
from lima2_core.system.merge import RecordMerger
from lima2_core.testing.system_script import SUM_RECORD, sums

NESTED = np.dtype([("frame_idx", "<i4"), ("pair", "<f4", (2,)), ("count", "<u2")])


def merger_of(per_frame=1, **settings):
    merger = RecordMerger(RecordSpec("sums", SUM_RECORD, per_frame), **settings)
    return merger, merger.stream.cursor()


def indices(*numbers):
    return np.array(numbers, np.int64)


def test_records_come_out_in_frame_order():
    merger, cursor = merger_of()

    merger.put(sums(0, 4, 2))
    assert cursor.read()["frame_idx"].tolist() == [0]
    merger.put(sums(1, 3, receiver=1))

    told = cursor.read()
    assert told["frame_idx"].tolist() == [1, 2, 3, 4]
    assert told["sum"].tolist() == [10, 20, 30, 40]
    assert told["recv_idx"].tolist() == [1, 0, 1, 0]
    assert (merger.front, merger.highest) == (5, 5)


def test_all_records_of_a_frame_stay_together():
    merger, cursor = merger_of(per_frame=3)

    merger.put(sums(1, 0, per_frame=3))

    assert cursor.read()["sum"].tolist() == [0, 1, 2, 10, 11, 12]


def test_a_missing_frame_has_records_without_values():
    merger, cursor = merger_of(per_frame=2)

    merger.put(sums(0, 2, per_frame=2))
    merger.miss(indices(1))

    told = cursor.read()
    assert told["frame_idx"].tolist() == [0, 0, 1, 1, 2, 2]
    assert np.isnan(told["sum"]).tolist() == [False, False, True, True, False, False]


def test_all_floats_of_a_missing_frame_are_not_a_number():
    merger = RecordMerger(RecordSpec("nested", NESTED))
    cursor = merger.stream.cursor()

    merger.miss(indices(0))

    (record,) = cursor.read()
    assert (record["frame_idx"], record["count"]) == (0, 0)
    assert np.isnan(record["pair"]).all()


def test_what_comes_twice_counts_once_and_the_first_time():
    merger, cursor = merger_of()
    first, again = sums(1), sums(1)
    again["sum"] = -1

    merger.put(np.concatenate([first, again]))
    merger.put(again)
    merger.miss(indices(1))
    merger.put(sums(0))
    merger.put(np.concatenate([sums(0), again]))

    assert cursor.read()["sum"].tolist() == [0, 10]
    assert cursor.read().size == 0


def test_what_counts_as_missing_stays_missing():
    merger, cursor = merger_of()

    merger.miss(indices(1))
    merger.put(sums(1, 0))

    assert np.isnan(cursor.read()["sum"]).tolist() == [False, True]


def test_open_frames_are_those_without_records():
    merger, _ = merger_of()
    merger.put(sums(0, 1, 4, 6))

    assert merger.open_indices(0).tolist() == []
    assert merger.open_indices(2).tolist() == []
    assert merger.open_indices(5).tolist() == [2, 3]
    assert merger.open_indices(9).tolist() == [2, 3, 5, 7, 8]
    assert merger.highest == 7
    assert merger.open_indices(10**6).size == 10**6 - 4


def test_a_frame_that_is_long_in_coming_loses_nothing():
    merger, cursor = merger_of()

    for idx in range(1, 5000):
        merger.put(sums(idx))
    assert cursor.read().size == 0
    merger.put(sums(0))

    assert cursor.read()["frame_idx"].tolist() == list(range(5000))


@pytest.mark.parametrize("seed", range(10))
def test_the_order_in_which_receivers_tell_makes_no_difference(seed):
    rng = np.random.default_rng(seed)
    merger, cursor = merger_of()
    told = []
    for some in np.array_split(rng.permutation(1000), 90):
        (merger.miss if rng.random() < 0.2 else lambda s: merger.put(sums(*s)))(some)
        told.append(cursor.read())

    assert np.concatenate(told)["frame_idx"].tolist() == list(range(1000))


def test_readers_do_not_take_from_each_other():
    merger, first = merger_of()
    second = merger.stream.cursor()

    merger.put(sums(0, 1))
    assert first.read()["frame_idx"].tolist() == [0, 1]
    merger.put(sums(2))

    assert first.read()["frame_idx"].tolist() == [2]
    assert second.read()["frame_idx"].tolist() == [0, 1, 2]


def test_a_reader_that_never_reads_does_not_take_all_memory():
    merger, idle = merger_of(limit_bytes=100 * SUM_RECORD.itemsize)
    busy = merger.stream.cursor()

    for idx in range(300):
        merger.put(sums(idx))
        assert len(busy.read()) == 1

    with pytest.raises(NotAvailableError, match="not read in time"):
        idle.read()


def test_half_a_frame_is_refused():
    merger, _ = merger_of(per_frame=2)

    with pytest.raises(ValueError, match="reshape"):
        merger.put(sums(0, per_frame=2)[:1])
