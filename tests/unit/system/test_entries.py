"""What became of sums of frames, from what became of the frames."""

from types import SimpleNamespace

import numpy as np
import pytest

from lima2_core.data.frame import Validity
from lima2_core.data.rows import ROW_RECORD
from lima2_core.system.entries import end_of, entries_of
from lima2_core.system.ledger import OPEN, Ledger

VALID, PARTIAL, DROPPED, NEVER = (
    int(code) for code in (Validity.VALID, Validity.PARTIAL, Validity.DROPPED, Validity.NEVER_SENT)
)


def make_run(codes, receivers=2, depth=2, *, expected=None, known=True, parts=1, saved=None):
    """A run whose frames have these classes; None: nothing is known."""
    ledger = Ledger(expected, parts)
    rows = np.zeros(sum(code is not None for code in codes), ROW_RECORD)
    rows["frame_idx"] = [idx for idx, code in enumerate(codes) if code is not None]
    rows["code"] = [code for code in codes if code is not None]
    rows["timestamp_s"] = 100 + rows["frame_idx"]
    for receiver in range(parts):
        ledger.tell(receiver, rows)
    return SimpleNamespace(
        members=[None] * receivers,
        ledger=ledger,
        layout=SimpleNamespace(parts=parts, depth_of=lambda name: depth, known=known),
        view=SimpleNamespace(saved=saved or {}),
        accessible=lambda source: 3,
    )


def test_a_sum_is_what_its_frames_are():
    # Receiver 0 sums 0 + 2, then 4 + 6; receiver 1 sums 1 + 3, then 5 + 7.
    codes = [0, DROPPED, 0, DROPPED, DROPPED, 0, 0, 0]
    run = make_run(codes, expected=8)

    found = entries_of(run, "frame", 0, 4)

    assert found.code.tolist() == [VALID, DROPPED, PARTIAL, VALID]
    assert found.receiver.tolist() == [0, 1, 0, 1]
    assert found.timestamp_s.tolist() == [100, 0, 106, 105]
    assert found.row.tolist() == [[-1]] * 4
    assert entries_of(run, "frame", 2, 3).code.tolist() == [PARTIAL]
    assert len(entries_of(run, "frame", 2, 2)) == 0
    assert end_of(run, "frame") == 3


@pytest.mark.parametrize(("expected", "code"), [(5, PARTIAL), (None, OPEN)])
def test_the_last_sum_may_be_of_fewer_frames(expected, code):
    run = make_run([0] * 5, receivers=1, depth=3, expected=expected)

    found = entries_of(run, "frame", 0, 3).code.tolist()

    assert found == [VALID, code, NEVER if expected else OPEN]


def test_a_sum_is_open_until_all_its_frames_are_settled():
    run = make_run([0, 0, None, 0], receivers=1, expected=4)

    assert entries_of(run, "frame", 0, 2).code.tolist() == [VALID, OPEN]


def test_where_nobody_knows_who_gets_a_frame_all_stays_open():
    run = make_run([0] * 8, known=False, expected=8)
    run.members = [SimpleNamespace(ended=False), SimpleNamespace(ended=False)]

    assert entries_of(run, "frame", 0, 2).code.tolist() == [OPEN, OPEN]


@pytest.mark.parametrize(("lost", "code"), [("", NEVER), ("r1 died", int(Validity.RECEIVER_LOST))])
def test_a_receiver_that_has_ended_makes_no_more_sums(lost, code):
    run = make_run([0] * 8, known=False, expected=8)
    ended = SimpleNamespace(ended=True, lost=lost, counter=lambda name: 1)
    run.members = [SimpleNamespace(ended=False), ended]

    assert entries_of(run, "frame", 0, 5).code.tolist() == [OPEN, OPEN, OPEN, code, OPEN]


def test_sums_of_frames_in_parts_are_those_of_one_receiver():
    run = make_run([0, 0, DROPPED, 0], parts=2, expected=4)

    found = entries_of(run, "frame", 0, 2)

    assert found.code.tolist() == [VALID, PARTIAL]
    assert found.receiver.tolist() == [-1, -1]
    assert found.row.tolist() == [[-1, -1]] * 2


def test_sums_that_are_saved_have_books_of_their_own():
    books = Ledger(2)
    books.lose(np.arange(2), Validity.CRASH)
    run = make_run([0] * 4, saved={"frame": SimpleNamespace(ledger=books)}, expected=4)

    assert entries_of(run, "frame", 0, 2).code.tolist() == [int(Validity.CRASH)] * 2
    assert end_of(run, "frame") == 2
    assert entries_of(run, "", 0, 4).code.tolist() == [VALID] * 4
