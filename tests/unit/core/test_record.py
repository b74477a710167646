import numpy as np
import pytest

from lima2_core.data.record import FRAME_IDX_RECORD, RecordSpec, RecordStream
from lima2_core.errors import NotAvailableError
from lima2_core.testing.doubles import LIMIT_S
from lima2_core.worker import Worker

DTYPE = np.dtype([("n", "<i4"), ("value", "<f4")])


def stream_of(rows_per_frame=1, **limits):
    return RecordStream(RecordSpec("numbers", DTYPE, rows_per_frame), **limits)


def records(*numbers):
    out = np.zeros(len(numbers), DTYPE)
    out["n"] = numbers
    out["value"] = np.array(numbers) / 2
    return out


def numbers_of(cursor):
    return cursor.read()["n"].tolist()


def test_a_cursor_reads_what_was_appended_since_its_last_read():
    stream = stream_of()
    cursor = stream.cursor()
    stream.append(records(1, 2))
    stream.append(records(3))

    assert cursor.waiting() == 3
    assert cursor.read().tolist() == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert cursor.waiting() == 0
    assert numbers_of(cursor) == []
    stream.append(records(4))
    assert numbers_of(cursor) == [4]


def test_a_cursor_begins_at_the_end():
    stream = stream_of()
    early = stream.cursor()
    stream.append(records(1))

    late = stream.cursor()
    stream.append(records(2))

    assert numbers_of(early) == [1, 2]
    assert numbers_of(late) == [2]


def test_no_cursor_takes_the_records_of_another():
    stream = stream_of()
    one, two = stream.cursor(), stream.cursor()
    stream.append(records(1, 2))

    assert numbers_of(one) == [1, 2]
    assert two.waiting() == 2
    stream.append(records(3))
    assert numbers_of(two) == [1, 2, 3]
    assert numbers_of(one) == [3]


def test_what_was_read_does_not_change_afterwards():
    stream = stream_of(capacity_frames=2)
    cursor = stream.cursor()
    stream.append(records(1, 2))
    read = cursor.read()

    stream.append(records(3, 4))

    assert read["n"].tolist() == [1, 2]


def test_without_a_cursor_records_are_counted_and_not_kept():
    stream = stream_of(capacity_frames=1)

    for n in range(10):
        stream.append(records(n, n))

    assert (stream.stats().appended, stream.stats().kept, stream.stats().cursors) == (20, 0, 0)
    assert numbers_of(stream.cursor()) == []


def test_the_ring_is_used_again_and_again():
    stream = stream_of(capacity_frames=3)
    cursor = stream.cursor()

    read = []
    for n in range(0, 20, 2):
        stream.append(records(n, n + 1))
        read += numbers_of(cursor)

    assert read == list(range(20))


def test_the_ring_grows_while_somebody_needs_what_it_holds():
    stream = stream_of(capacity_frames=3)
    slow, fast = stream.cursor(), stream.cursor()
    stream.append(records(0, 1))
    assert numbers_of(slow) == [0, 1]

    for n in range(2, 50):
        stream.append(records(n))
        if n == 10:
            assert numbers_of(fast) == list(range(11))

    assert stream.stats().kept == 48
    assert numbers_of(fast) == list(range(11, 50))
    assert numbers_of(slow) == list(range(2, 50))
    assert stream.stats().given_up == 0


def test_many_records_at_once_make_the_ring_grow_as_well():
    stream = stream_of(capacity_frames=1)
    cursor = stream.cursor()

    stream.append(records(*range(100)))

    assert numbers_of(cursor) == list(range(100))


def test_a_cursor_that_needs_more_than_the_limit_is_given_up_and_the_others_go_on():
    stream = stream_of(capacity_frames=2, limit_bytes=4 * DTYPE.itemsize)
    late, prompt = stream.cursor(), stream.cursor()

    read = []
    for n in range(5):
        stream.append(records(n))
        read += numbers_of(prompt)

    assert read == [0, 1, 2, 3, 4]
    with pytest.raises(NotAvailableError, match="numbers were not read in time") as caught:
        late.read()
    assert caught.value.details["stream"] == "numbers"
    assert late.waiting() == 0
    assert stream.stats().given_up == 1
    assert stream.stats().cursors == 1


def test_the_limit_itself_may_be_kept():
    stream = stream_of(capacity_frames=1, limit_bytes=4 * DTYPE.itemsize)
    cursor = stream.cursor()
    for n in range(4):
        stream.append(records(n))

    assert numbers_of(cursor) == [0, 1, 2, 3]


def test_an_append_beyond_the_limit_gives_up_all_and_keeps_nothing():
    stream = stream_of(capacity_frames=1, limit_bytes=4 * DTYPE.itemsize)
    cursor = stream.cursor()

    stream.append(records(*range(5)))

    with pytest.raises(NotAvailableError):
        cursor.read()
    assert stream.stats().kept == 0
    later = stream.cursor()
    stream.append(records(7))
    assert numbers_of(later) == [7]


def test_a_late_cursor_can_begin_anew():
    stream = stream_of(capacity_frames=1, limit_bytes=DTYPE.itemsize)
    late = stream.cursor()
    stream.append(records(1))
    stream.append(records(2))
    with pytest.raises(NotAvailableError):
        late.read()

    again = stream.cursor()
    stream.append(records(3))

    assert numbers_of(again) == [3]


def test_the_limit_holds_whole_frames():
    # Three rows of 8 bytes make a frame; 50 bytes have room for two frames, not for six rows more.
    stream = stream_of(rows_per_frame=3, capacity_frames=1, limit_bytes=50)
    cursor = stream.cursor()
    stream.append(records(0, 0, 0))
    stream.append(records(1, 1, 1))
    assert cursor.waiting() == 6

    stream.append(records(2, 2, 2))

    with pytest.raises(NotAvailableError):
        cursor.read()


def test_a_closed_cursor_keeps_nothing_alive():
    stream = stream_of(capacity_frames=1)
    cursor = stream.cursor()
    stream.append(records(1))

    cursor.close()
    cursor.close()

    assert stream.stats().kept == 0
    assert stream.stats().cursors == 0


def test_a_reader_beside_the_writer_gets_whole_frames_in_order():
    stream = stream_of(rows_per_frame=2, capacity_frames=3)
    cursor = stream.cursor()

    def write():
        for n in range(500):
            stream.append(records(n, n))

    writer = Worker("writer", write)
    read = []
    while len(read) < 1000:
        portion = numbers_of(cursor)
        assert len(portion) % 2 == 0
        read += portion

    assert writer.join(LIMIT_S)
    assert read == [n for n in range(500) for _ in range(2)]


def test_the_frame_index_record_is_two_little_endian_integers():
    assert FRAME_IDX_RECORD.itemsize == 8
    assert np.array([(1, 2)], FRAME_IDX_RECORD).tobytes() == b"\1\0\0\0\2\0\0\0"


def test_a_cursor_tells_what_it_reads():
    stream = stream_of()

    assert stream.cursor().spec is stream.spec
