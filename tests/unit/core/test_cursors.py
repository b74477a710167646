"""Merged records for clients that come late, go without a word, and do not disturb each other."""

import numpy as np
import pytest

from lima2_core.data.record import RecordSpec, RecordStream
from lima2_core.errors import NotAvailableError
from lima2_core.system.cursors import MOST_CURSORS, Cursors, StreamHistory

DTYPE = np.dtype([("frame_idx", "<i4"), ("sum", "<f4")])


@pytest.fixture
def stream():
    return RecordStream(RecordSpec("roi", DTYPE, rows_per_frame=2))


def append(stream, frames):
    records = np.zeros(2 * len(frames), DTYPE)
    records["frame_idx"] = np.repeat(frames, 2)
    stream.append(records)


def frames_of(records):
    return records["frame_idx"][::2].tolist()


def test_clients_do_not_take_each_others_records(stream):
    cursors = Cursors({"roi": stream})
    one, two = cursors.open("roi"), cursors.open("roi")
    append(stream, [0, 1])

    first = frames_of(cursors.read(one)[2])
    append(stream, [2])

    assert first == [0, 1]
    assert frames_of(cursors.read(one)[2]) == [2]
    assert frames_of(cursors.read(two)[2]) == [0, 1, 2]
    assert cursors.read(two)[1:2] == (6,)
    assert frames_of(cursors.read(two)[2]) == []


def test_a_late_client_gets_everything_from_the_start(stream):
    cursors = Cursors({"roi": stream})
    for frame in range(5):
        append(stream, [frame])
        cursors.gather()

    name, first, records = cursors.read(cursors.open("roi"))

    assert (name, first) == ("roi", 0)
    assert frames_of(records) == [0, 1, 2, 3, 4]


def test_a_history_is_bounded_and_says_what_it_has_forgotten(stream):
    history = StreamHistory(stream, limit_bytes=4 * 2 * DTYPE.itemsize)
    for frame in range(10):
        append(stream, [frame])
        history.gather()

    assert history.first == 12
    assert frames_of(history.read(12)) == [6, 7, 8, 9]
    assert frames_of(history.read(16)) == [8, 9]
    assert len(history.read(20)) == 0
    with pytest.raises(NotAvailableError, match=r"before frame 6 .* open a new cursor"):
        history.read(11)


def test_a_cursor_that_was_too_slow_is_closed(stream):
    cursors = Cursors({"roi": stream})
    slow = cursors.open("roi")
    cursors._histories["roi"]._limit_bytes = 1
    for frame in range(3):
        append(stream, [frame])
        cursors.gather()

    with pytest.raises(NotAvailableError, match="not kept any more"):
        cursors.read(slow)
    with pytest.raises(NotAvailableError, match="not known"):
        cursors.read(slow)
    assert frames_of(cursors.read(cursors.open("roi"))[2]) == [2]


def test_unknown_streams_and_cursors_are_refused(stream):
    cursors = Cursors({"roi": stream})

    with pytest.raises(NotAvailableError, match="there are: roi"):
        cursors.open("other")
    with pytest.raises(NotAvailableError, match="cursor 7 is not known"):
        cursors.read(7)
    cursors.close(7)


def test_cursors_that_nobody_serves_are_given_up(stream):
    cursors = Cursors({"roi": stream})
    served = cursors.open("roi")
    forgotten = cursors.open("roi")
    cursors.read(served)
    for _ in range(MOST_CURSORS - 1):
        cursors.open("roi")

    cursors.read(served)
    with pytest.raises(NotAvailableError, match="not served"):
        cursors.read(forgotten)
    cursors.close_all()
    with pytest.raises(NotAvailableError):
        cursors.read(served)
    assert stream.stats().cursors == 0
