import numpy as np
import pytest

from lima2_core.data.frame import Validity
from lima2_core.system.ledger import OPEN, Ledger, LedgerSummary
from lima2_core.testing.system_script import gaps, rows

LOSSES = [code for code in Validity if code not in (Validity.VALID, Validity.PARTIAL)]


def codes(ledger, total):
    """The class of each frame; None where it is open."""
    listed = ledger.entries(0, total).code.tolist()
    return [None if code == OPEN else Validity(code).name for code in listed]


def indices(*numbers):
    return np.array(numbers, np.int64)


def test_frames_are_settled_in_any_order_and_the_front_is_where_the_first_is_open():
    ledger = Ledger(10)

    fronts = []
    for idx in (0, 4, 2, 1, 8, 3, 9, 7, 6, 5):
        ledger.tell(0, rows(idx))
        fronts.append(ledger.front)

    assert fronts == [1, 1, 1, 3, 3, 5, 5, 5, 5, 10]
    assert ledger.highest == 10
    assert ledger.summary() == LedgerSummary({Validity.VALID: 10}, 0, 10)


def test_an_entry_says_who_has_the_frame_where_and_when_it_was_taken():
    ledger = Ledger(4)
    ledger.tell(1, rows(3, 1, first_row=5))
    ledger.tell(0, gaps(2))

    entries = ledger.entries(0, 4)

    assert entries.receiver.tolist() == [-1, 1, 0, 1]
    assert entries.row[:, 0].tolist() == [-1, 6, -1, 5]
    assert entries.timestamp_s.tolist() == [0.0, 101.0, 0.0, 103.0]
    assert codes(ledger, 4) == [None, "VALID", "DROPPED", "VALID"]
    assert (len(entries), ledger.entries(2, 4).first) == (4, 2)


def test_of_a_frame_told_of_twice_the_first_telling_counts():
    ledger = Ledger(4)
    ledger.tell(0, rows(1, 2))
    ledger.tell(1, gaps(2, 3, code=Validity.OVERRUN))
    ledger.tell(1, np.concatenate([rows(0, first_row=7), gaps(0)]))

    assert codes(ledger, 4) == ["VALID", "VALID", "VALID", "OVERRUN"]
    assert ledger.entries(0, 1).row.tolist() == [[7]]
    assert ledger.summary().adds_up


def test_a_negative_index_is_no_frame():
    ledger = Ledger(2)

    ledger.tell(0, rows(-1, 0))
    ledger.tell(0, rows(-1))

    assert codes(ledger, 2) == ["VALID", None]


def test_a_frame_beyond_the_expected_ones_is_expected_from_then_on():
    ledger = Ledger(2)

    ledger.tell(0, rows(0, 1, 2))

    assert ledger.summary() == LedgerSummary({Validity.VALID: 3}, 0, 3)


def test_only_open_frames_can_be_lost():
    ledger = Ledger(4)
    ledger.tell(0, rows(1))

    ledger.lose(indices(0, 1, 3), Validity.RECEIVER_LOST)
    ledger.tell(0, rows(3))  # too late

    assert codes(ledger, 4) == ["RECEIVER_LOST", "VALID", None, "RECEIVER_LOST"]
    assert ledger.front == 2
    ledger.lose(indices(), Validity.RECEIVER_LOST)
    assert ledger.open_indices(4).tolist() == [2]


def test_frames_that_were_told_of_can_turn_out_to_be_lost():
    ledger = Ledger(6)
    ledger.tell(0, rows(0, 2, 4))
    ledger.tell(1, np.concatenate([rows(1, 3), gaps(5)]))

    struck = ledger.strike(1, 1, Validity.CRASH)

    assert struck.tolist() == [3]
    assert codes(ledger, 6) == ["VALID", "VALID", "VALID", "CRASH", "VALID", "DROPPED"]
    assert (ledger.front, ledger.summary().lost) == (6, 2)


def test_a_class_can_be_exchanged_for_another():
    ledger = Ledger(6)
    ledger.tell(0, rows(0, 1))
    ledger.lose(indices(2, 3, 4, 5), Validity.RECEIVER_LOST)

    ledger.revise(np.arange(1, 6)[2:], Validity.RECEIVER_LOST, Validity.NEVER_SENT)
    ledger.revise(np.arange(6, 9000), Validity.RECEIVER_LOST, Validity.NEVER_SENT)

    assert codes(ledger, 6) == ["VALID", "VALID", "RECEIVER_LOST", *["NEVER_SENT"] * 3]
    assert ledger.last_sent() == 3


def test_at_the_end_every_frame_has_one_class():
    ledger = Ledger(5)
    ledger.tell(0, rows(1, 3))

    ledger.end(5)

    assert codes(ledger, 5) == ["NEVER_SENT", "VALID", "NEVER_SENT", "VALID", "NEVER_SENT"]
    assert (ledger.front, ledger.summary().open, ledger.last_sent()) == (5, 0, 4)


def test_without_a_limit_the_end_makes_one():
    ledger = Ledger(None)
    ledger.tell(0, rows(0, 1, 5))
    assert ledger.summary() == LedgerSummary({Validity.VALID: 3}, 3, None)
    assert ledger.summary().adds_up

    ledger.end(4)

    assert ledger.expected == 6
    assert ledger.summary() == LedgerSummary({Validity.VALID: 3, Validity.NEVER_SENT: 3}, 0, 6)


def test_an_empty_run_has_an_empty_ledger():
    ledger = Ledger(None)

    ledger.end(0)

    assert ledger.summary().sentence() == "there are no frames"
    assert (ledger.front, ledger.last_sent(), len(ledger.entries(0, 0))) == (0, 0, 0)


def test_looking_beyond_the_end_changes_nothing():
    ledger = Ledger(3)
    ledger.tell(0, rows(0, 1, 2))

    assert codes(ledger, 5)[3:] == [None, None]
    assert ledger.open_indices(5000).size == 4997
    assert (ledger.front, ledger.highest, ledger.summary().open) == (3, 3, 0)


# Parts


def told_in_parts(*told):
    """A ledger of one frame in four parts; None for a part of which nothing is told."""
    ledger = Ledger(1, parts=4)
    for receiver, code in enumerate(told):
        if code is not None:
            ledger.tell(receiver, rows(0, code=code) if code in (0, 1) else gaps(0, code=code))
    return ledger


V, P, D, K = Validity.VALID, Validity.PARTIAL, Validity.DROPPED, Validity.PACKET_LOSS


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((V, V, V, V), "VALID"),
        ((V, V, V, D), "PARTIAL"),
        ((V, V, P, V), "PARTIAL"),
        ((D, D, D, V), "PARTIAL"),
        ((D, D, D, D), "DROPPED"),
        ((D, K, D, D), "PACKET_LOSS"),
        ((V, V, V, None), None),
        ((D, D, D, None), None),
    ],
)
def test_a_frame_in_parts_has_the_class_of_its_parts(told, expected):
    assert codes(told_in_parts(*told), 1) == [expected]


def test_a_frame_in_parts_is_known_as_soon_as_one_part_is():
    ledger = Ledger(None, parts=2)
    ledger.tell(0, rows(0, 1, 2))
    ledger.tell(1, rows(0))

    assert (ledger.front, ledger.highest) == (1, 3)
    assert ledger.summary() == LedgerSummary({Validity.VALID: 1}, 2, None)
    ledger.end(ledger.highest)
    assert codes(ledger, 3) == ["VALID", "PARTIAL", "PARTIAL"]


def test_a_missing_part_takes_nothing_from_the_others():
    ledger = Ledger(1, parts=2)
    ledger.tell(0, rows(0, first_row=9))
    ledger.tell(1, gaps(0))

    entries = ledger.entries(0, 1)

    assert entries.row.tolist() == [[9, -1]]
    assert entries.timestamp_s.tolist() == [100.0]
    assert entries.receiver.tolist() == [-1]


def test_only_the_parts_of_one_receiver_are_lost_with_it():
    ledger = Ledger(3, parts=2)
    ledger.tell(0, rows(0, 1, 2))
    ledger.tell(1, rows(0))
    assert ledger.open_indices(3, 1).tolist() == [1, 2]
    assert ledger.open_indices(3, 0).tolist() == []

    ledger.lose(ledger.open_indices(3, 1), Validity.RECEIVER_LOST, 1)

    assert codes(ledger, 3) == ["VALID", "PARTIAL", "PARTIAL"]


def test_a_part_that_was_never_flushed_leaves_the_others():
    ledger = Ledger(3, parts=2)
    ledger.tell(0, rows(0, 1, 2))
    ledger.tell(1, np.concatenate([rows(0, 1), gaps(2)]))

    assert ledger.strike(1, 1, Validity.CRASH).tolist() == [1]

    assert codes(ledger, 3) == ["VALID", "PARTIAL", "PARTIAL"]
    assert ledger.strike(0, 0, Validity.CRASH).tolist() == [0, 1, 2]
    assert codes(ledger, 3) == ["PARTIAL", "CRASH", "CRASH"]


# Whatever is told


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_all_classes_together_are_what_is_expected_whatever_happens(seed, parts):
    rng = np.random.default_rng(seed)
    total = int(rng.integers(1, 60))
    ledger = Ledger(total if seed % 3 else None, parts)

    for _ in range(60):
        some = rng.permutation(total)[: rng.integers(1, 8)]
        receiver = int(rng.integers(parts if parts > 1 else 4))
        act = rng.integers(7)
        if act < 4:
            ledger.tell(receiver, rows(*some, code=rng.choice([V, P])))
        elif act == 4:
            ledger.tell(receiver, gaps(*some, code=rng.choice(LOSSES)))
        elif act == 5:
            ledger.lose(some, rng.choice(LOSSES), receiver)
        else:
            ledger.strike(receiver, int(rng.integers(5)), Validity.CRASH)
        check(ledger)
    ledger.end(total)

    check(ledger)
    summary = ledger.summary()
    assert (summary.open, sum(summary.counts.values())) == (0, ledger.expected)
    assert ledger.front == ledger.expected == total


def check(ledger):
    summary = ledger.summary()
    assert summary.adds_up
    size = ledger.expected or ledger.highest
    listed = ledger.entries(0, size).code
    assert sum(summary.counts.values()) + summary.open == size
    for code in Validity:
        assert summary.counts.get(code, 0) == (listed == code).sum()
    is_open = np.flatnonzero(listed == OPEN)
    assert ledger.front == (is_open[0] if len(is_open) else size)


def test_a_ledger_is_the_same_however_it_is_told():
    order = np.random.default_rng(3).permutation(3000)
    at_once, one_by_one = Ledger(3000), Ledger(3000)

    at_once.tell(0, rows(*range(3000)))
    for idx in order:
        one_by_one.tell(0, rows(int(idx), first_row=int(idx)))

    for name in ("code", "row", "receiver", "timestamp_s"):
        first, second = (getattr(one.entries(0, 3000), name) for one in (at_once, one_by_one))
        np.testing.assert_array_equal(first, second)
    assert one_by_one.front == 3000


# For people


@pytest.mark.parametrize(
    ("counts", "still_open", "sentence"),
    [
        ({V: 10}, 0, "all 10 frames are valid"),
        ({V: 1}, 0, "the only frame is valid"),
        ({V: 1, D: 1}, 0, "1 of 2 frames is valid; 1 dropped"),
        ({V: 7, Validity.NEVER_SENT: 3}, 0, "7 of 10 frames are valid; 3 never sent"),
        (
            {V: 5, P: 1, Validity.RECEIVER_LOST: 2},
            2,
            "5 of 10 frames are valid; 1 partial, 2 receiver lost, 2 still open",
        ),
        ({}, 4, "0 of 4 frames are valid; 4 still open"),
    ],
)
def test_the_verdict_is_a_sentence(counts, still_open, sentence):
    total = sum(counts.values()) + still_open

    assert LedgerSummary(counts, still_open, total).sentence() == sentence


def test_lost_is_what_was_exposed_and_is_not_there():
    summary = LedgerSummary({code: 1 for code in Validity}, 0, len(Validity))

    assert summary.lost == len(Validity) - 4  # valid, partial, veto, never sent
    assert not LedgerSummary({V: 3}, 0, 4).adds_up


def test_a_part_that_is_missing_has_no_row_to_be_read():
    ledger = Ledger(2, 2)
    ledger.tell(0, rows(0, 1))
    ledger.tell(1, rows(0, code=Validity.PACKET_LOSS))
    ledger.tell(1, rows(1, first_row=1))

    entries = ledger.entries(0, 2)
    assert entries.row.tolist() == [[0, -1], [1, 1]]


def test_frames_that_were_never_sent_take_no_memory_however_many():
    many = 10**15
    ledger = Ledger(many)
    ledger.tell(0, rows(0, 1, 3))
    assert ledger.summary().open == many - 3

    ledger.end(many)

    assert ledger.extent < 10
    assert (ledger.front, ledger.highest, ledger.last_sent()) == (many, many, 4)
    assert ledger.summary() == LedgerSummary(
        {Validity.VALID: 3, Validity.NEVER_SENT: many - 3}, 0, many
    )
    assert codes(ledger, 5) == ["VALID", "VALID", "NEVER_SENT", "VALID", "NEVER_SENT"]
    last = ledger.entries(many - 2, many + 1)
    assert last.code.tolist() == [Validity.NEVER_SENT, Validity.NEVER_SENT, OPEN]
    assert last.row.tolist() == [[-1]] * 3
    assert last.receiver.tolist() == [-1] * 3
    assert ledger.open_indices(100).tolist() == []
    assert ledger.summary().adds_up


def test_what_becomes_known_of_a_frame_that_was_never_sent_counts_once():
    ledger = Ledger(20, parts=2)
    ledger.tell(0, rows(0, 1))
    ledger.end(20)

    ledger.lose(np.array([15]), Validity.CRASH)
    ledger.recover(1, np.array([0]), np.array([0]), np.array([0], np.uint8))

    assert codes(ledger, 2) == ["PARTIAL", "PARTIAL"]
    assert ledger.summary().counts == {Validity.PARTIAL: 2, Validity.NEVER_SENT: 18}
    assert ledger.summary().adds_up
    assert ledger.front == 20


def test_frames_are_incomplete_by_parts_that_were_sent_and_are_not_forgiven():
    ledger = Ledger(6, parts=2)
    ledger.tell(0, rows(0, 1, 2, 3, 4))
    ledger.tell(1, np.concatenate([rows(0, 1, code=Validity.PARTIAL), gaps(2)]))
    assert ledger.incomplete() == 3

    ledger.lose(np.array([3]), Validity.RECEIVER_LOST, 1)
    ledger.end(6)

    # Of frame 4 one part came, and the other was never sent.
    assert ledger.incomplete() == 4
    assert ledger.incomplete([Validity.RECEIVER_LOST]) == 3
    assert ledger.summary().counts == {Validity.PARTIAL: 5, Validity.NEVER_SENT: 1}


def test_whole_frames_are_incomplete_if_they_say_so():
    ledger = Ledger(2)
    ledger.tell(0, np.concatenate([rows(0), rows(1, code=Validity.PARTIAL)]))

    assert ledger.incomplete() == 1


def test_the_last_frame_that_was_sent_is_found_however_far_from_the_end_of_the_entries():
    ledger = Ledger(300_000)
    assert ledger.last_sent() == 0
    ledger.tell(0, rows(7))
    ledger.lose(np.arange(8, 250_000), Validity.NEVER_SENT)

    assert ledger.last_sent() == 8


def test_incomplete_frames_can_be_counted_up_to_a_border():
    ledger = Ledger(6)
    ledger.tell(0, rows(0, 3, 5, code=Validity.PARTIAL))

    assert [ledger.incomplete(end=end) for end in (0, 1, 4, 5, 6, 100)] == [0, 1, 2, 2, 3, 3]
