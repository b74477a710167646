"""What follows from what receivers tell, in every topology."""

import itertools

import numpy as np
import pytest

from lima2_core.data.frame import Validity
from lima2_core.data.rows import LEDGER
from lima2_core.system.books import DISORDER, ROWS, Books
from lima2_core.system.layout import layout_of
from lima2_core.system.ledger import OPEN
from lima2_core.testing.system_script import SUMS, describe, gaps, part_sums, rows, sums

LOST, CRASH, NEVER = Validity.RECEIVER_LOST, Validity.CRASH, Validity.NEVER_SENT
FAULT = Validity.PROCESSING_FAULT
ENDLESS = None


class Desk:
    """Books of some receivers, and what can be read in them."""

    def __init__(self, expected, n=2, *, strips=False, streams=None, saved=(), **changed):
        strip = [(0, 2), (2, 4)] if strips else [None] * n
        each = [
            describe(strip=one, streams=streams or {SUMS: 1}, saved=saved, **changed)
            for one in strip
        ]
        self.books = Books(layout_of(each), n, expected)
        self.ledger = self.books.ledger
        if not strips:
            self.cursor = self.books.mergers[SUMS].stream.cursor()

    def tell(self, receiver, told, *, records=True, saved=True, gone=None):
        news = {LEDGER: told}
        there = told[told["row"] >= 0]
        if records:
            news[SUMS] = sums(*there["frame_idx"], receiver=receiver)
        for name in self.books.saved if saved else ():
            news[ROWS + name] = there
        self.books.tell(receiver, news)
        self.books.settle(gone or {})

    def codes(self, total, ledger=None):
        listed = (ledger or self.ledger).entries(0, total).code.tolist()
        return [None if code == OPEN else Validity(code).name for code in listed]

    def records(self):
        """Indices of the records that came, negative (minus one) where they have no value."""
        told = self.cursor.read()
        missing = np.isnan(told["sum"])
        return np.where(missing, -told["frame_idx"] - 1, told["frame_idx"]).tolist()


# Who has which frame


@pytest.mark.parametrize(
    ("n", "depth", "frames", "expected"),
    [
        (1, 4, 0, 0),
        (1, 4, 1, 1),
        (1, 4, 8, 2),
        (1, 4, 9, 3),
        (2, 4, 1, 1),
        (2, 4, 2, 2),
        (2, 4, 8, 2),
        (2, 4, 9, 3),
        (2, 4, 10, 4),
        (3, 2, 5, 3),
        (3, 2, 7, 4),
    ],
)
def test_sums_are_counted_over_all_receivers(n, depth, frames, expected):
    books = Desk(frames or None, n, depth=depth).books
    shares = [range(r, frames, n) for r in range(n)]

    made = {k // depth * n + r for r, share in enumerate(shares) for k in range(len(share))}

    assert sorted(made) == list(range(expected))
    assert books.groups(SUMS, frames) == expected


# Nobody waits for a gap


def test_a_lost_frame_delays_nothing_on_either_receiver():
    desk = Desk(10)

    desk.tell(0, rows(0, 4, 2, 8, 6))
    lost = np.concatenate([rows(1), gaps(3), rows(5, 7, 9, first_row=2)])
    desk.tell(1, lost)

    assert desk.ledger.front == 10
    assert desk.codes(10)[2:5] == ["VALID", "DROPPED", "VALID"]
    assert desk.records() == [0, 1, 2, -4, 4, 5, 6, 7, 8, 9]
    assert desk.ledger.entries(0, 10).row[:, 0].tolist() == [0, 0, 2, -1, 1, 2, 4, 3, 3, 4]


def test_a_gap_with_a_row_has_records_of_its_own():
    desk = Desk(3, 1)
    told = rows(0, 1, 2)
    told["code"][1] = Validity.PACKET_LOSS

    desk.tell(0, told, records=False)
    assert desk.records() == []
    desk.books.tell(0, {SUMS: sums(0, 1, 2)})

    assert desk.records() == [0, 1, 2]


@pytest.mark.parametrize("keeps_rows", [True, False])
def test_a_gap_without_a_row_delays_no_records(keeps_rows):
    desk = Desk(ENDLESS, keeps_rows=keeps_rows)

    desk.tell(0, np.concatenate([rows(0), gaps(2)]))
    desk.tell(1, rows(1, 3))

    assert desk.records() == [0, 1, -3, 3]


def test_records_that_are_late_are_waited_for():
    desk = Desk(4, 1)

    desk.tell(0, rows(0, 1), records=False)
    assert (desk.ledger.front, desk.records()) == (2, [])
    desk.books.tell(0, {SUMS: sums(0, 1)})

    assert desk.records() == [0, 1]


def test_records_that_a_receiver_took_along_are_not_waited_for():
    desk = Desk(6)
    desk.tell(1, rows(1, 3), records=False)

    desk.tell(0, rows(0, 2, 4), gone={1: LOST})

    assert desk.codes(6) == ["VALID"] * 5 + ["RECEIVER_LOST"]
    assert desk.records() == [0, -2, 2, -4, 4, -6]


# Receivers that are gone, where everybody knows who has which frame


def test_frames_of_a_lost_receiver_are_lost_at_once():
    desk = Desk(10)
    desk.tell(1, rows(1))

    desk.tell(0, rows(0), gone={1: LOST})

    assert desk.codes(10) == ["VALID", "VALID", *[None, "RECEIVER_LOST"] * 4]
    assert desk.ledger.front == 2
    desk.tell(0, rows(2, 4, 6, 8), gone={1: LOST})
    assert desk.ledger.front == 10
    assert desk.records() == [0, 1, 2, -4, 4, -6, 6, -8, 8, -10]


@pytest.mark.parametrize("code", [LOST, FAULT, Validity.OVERRUN, NEVER])
def test_in_an_endless_run_the_front_goes_on_without_those_who_are_gone(code):
    desk = Desk(ENDLESS)
    desk.tell(1, rows(1))

    fronts = []
    for idx in range(0, 10, 2):
        desk.tell(0, rows(idx), gone={1: code})
        fronts.append(desk.ledger.front)

    assert fronts == [2, 3, 5, 7, 9]
    assert desk.records() == [0, 1, 2, -4, 4, -6, 6, -8, 8]


def test_a_lost_part_leaves_partial_frames():
    desk = Desk(4, strips=True)
    desk.tell(0, rows(0, 1))
    desk.tell(1, rows(0))

    desk.tell(0, rows(2, 3), gone={1: LOST})

    assert desk.codes(4) == ["VALID", "PARTIAL", "PARTIAL", "PARTIAL"]
    desk.books.end(4, True, {0: NEVER, 1: LOST})
    assert desk.codes(4) == ["VALID", "PARTIAL", "PARTIAL", "PARTIAL"]


def test_of_a_very_long_run_only_frames_near_the_others_are_settled_at_once():
    desk = Desk(50_000_000, saved=["frame"])
    for idx in range(0, 60, 2):
        desk.tell(0, rows(idx), gone={1: LOST})

    for ledger in (desk.ledger, desk.books.saved["frame"]):
        assert ledger.extent < 100_000
        assert desk.codes(4, ledger) == ["VALID", "RECEIVER_LOST"] * 2

    gone = {0: NEVER, 1: LOST}
    desk.books.settle(gone)
    desk.books.end(1000, True, gone)
    counts = desk.ledger.summary().counts
    assert counts[Validity.VALID] == 30
    assert counts[Validity.RECEIVER_LOST] == 500
    assert desk.ledger.summary().adds_up


def test_parts_of_nobody_are_lost():
    desk = Desk(2, strips=True)
    desk.books.settle({0: LOST, 1: LOST})

    assert desk.codes(2) == ["RECEIVER_LOST"] * 2


# Where nobody knows


def dynamic(expected, n=2, **changed):
    return Desk(expected, n, keeps_rows=False, **changed)


def test_a_frame_that_nobody_can_have_any_more_is_lost_with_the_lost_receiver():
    desk = dynamic(ENDLESS, 3)
    desk.tell(2, rows(1, 5))
    desk.tell(0, rows(0, 2))

    for idx in range(6, 2 * DISORDER, 2):
        desk.tell(0, rows(idx), gone={2: LOST})
        desk.tell(1, rows(idx + 1), gone={2: LOST})

    assert desk.codes(7) == ["VALID"] * 3 + ["RECEIVER_LOST"] * 2 + ["VALID"] * 2
    assert desk.ledger.front == 2 * DISORDER
    assert desk.records()[:7] == [0, 1, 2, -4, -5, 5, 6]


def test_a_receiver_that_is_behind_is_given_time():
    desk = dynamic(ENDLESS, 3)
    desk.tell(1, rows(1))

    desk.tell(0, rows(*range(2, 2 * DISORDER)), gone={2: LOST})
    assert desk.ledger.front == 0
    desk.tell(1, rows(0), gone={2: LOST})

    assert desk.ledger.front == 2 * DISORDER
    assert "RECEIVER_LOST" not in desk.codes(2 * DISORDER)


def test_who_ended_well_has_left_nothing_behind():
    desk = dynamic(ENDLESS)
    desk.tell(1, rows(1), gone={1: NEVER})

    desk.tell(0, rows(*range(3, 3 * DISORDER)), gone={1: NEVER})

    assert desk.codes(4) == [None, "VALID", None, "VALID"]


def test_at_the_end_what_was_exposed_is_lost_with_the_receiver_and_the_rest_never_was():
    desk = dynamic(10)
    desk.tell(0, rows(0, 3, 4))

    desk.books.end(7, True, {0: NEVER, 1: LOST})

    lost, never = "RECEIVER_LOST", "NEVER_SENT"
    assert desk.codes(10) == ["VALID", lost, lost, "VALID", "VALID", lost, lost, *[never] * 3]
    assert desk.records() == [0, -2, -3, 3, 4, -6, -7]


@pytest.mark.parametrize(
    ("gone", "code"),
    [
        ({0: NEVER, 1: FAULT}, "PROCESSING_FAULT"),
        ({0: Validity.OVERRUN, 1: LOST}, "RECEIVER_LOST"),
        ({0: NEVER, 1: NEVER}, "NEVER_SENT"),
    ],
)
def test_the_gravest_cause_stands_for_what_nobody_told_of(gone, code):
    desk = dynamic(4)
    desk.tell(0, rows(0, 2, 3))

    desk.books.end(4, True, gone)

    assert desk.codes(4) == ["VALID", code, "VALID", "VALID"]


# The end


def test_after_an_early_stop_frames_of_a_lost_receiver_were_never_sent_either():
    desk = Desk(10)
    desk.tell(0, rows(0, 2), gone={1: LOST})
    assert desk.codes(10)[9] == "RECEIVER_LOST"

    desk.books.end(4, True, {0: NEVER, 1: LOST})

    lost = "RECEIVER_LOST"
    assert desk.codes(10) == ["VALID", lost, "VALID", lost, *["NEVER_SENT"] * 6]
    assert desk.records() == [0, -2, 2, -4]


def test_without_a_word_of_the_detector_what_was_told_is_what_was_exposed():
    desk = Desk(10)
    desk.tell(0, rows(0, 2, 4), gone={1: LOST})

    desk.books.end(1, False, {0: NEVER, 1: LOST})

    assert desk.codes(10)[:6] == ["VALID", "RECEIVER_LOST"] * 3
    assert desk.codes(10)[6::2] == ["NEVER_SENT"] * 2


def test_frames_told_of_count_as_exposed_even_if_the_detector_counts_less():
    desk = Desk(6)
    desk.tell(0, rows(0, 2, 4), gone={1: FAULT})

    desk.books.end(1, True, {0: NEVER, 1: FAULT})

    assert desk.codes(6) == [*["VALID", "PROCESSING_FAULT"] * 2, "VALID", "NEVER_SENT"]


def test_an_endless_run_ends_with_the_last_frame_that_was_exposed():
    desk = Desk(ENDLESS)
    desk.tell(0, rows(0, 2))
    desk.tell(1, rows(1), gone={1: LOST})

    desk.books.end(4, True, {0: NEVER, 1: LOST})

    assert desk.ledger.expected == 4
    assert desk.codes(4) == ["VALID", "VALID", "VALID", "RECEIVER_LOST"]
    assert desk.records() == [0, 1, 2, -4]


def test_frames_that_never_were_have_no_records():
    desk = Desk(1_000_000)
    desk.tell(0, rows(0, 2))
    desk.tell(1, rows(1))

    desk.books.end(3, True, {0: NEVER, 1: NEVER})

    assert desk.records() == [0, 1, 2]
    assert desk.ledger.summary().counts == {Validity.VALID: 3, NEVER: 999_997}


# What is saved


def test_what_the_files_do_not_have_is_lost_in_both_ledgers():
    desk = Desk(8, saved=["frame"])
    desk.tell(0, rows(0, 2, 4, 6))
    desk.tell(1, rows(1, 3, 5, 7), gone={1: LOST})

    desk.books.strike(1, "frame", 2, CRASH)
    desk.books.end(8, True, {0: NEVER, 1: LOST})

    expected = ["VALID"] * 5 + ["CRASH", "VALID", "CRASH"]
    assert desk.codes(8) == desk.codes(8, desk.books.saved["frame"]) == expected


def test_what_was_saved_of_the_input_does_not_judge_the_frames():
    desk = Desk(4, saved=["frame", "input_frame"])
    desk.tell(0, rows(0, 2))
    desk.tell(1, rows(1, 3))

    desk.books.strike(1, "input_frame", 0, CRASH)

    assert desk.codes(4) == ["VALID"] * 4
    assert desk.codes(4, desk.books.saved["input_frame"]) == ["VALID", "CRASH"] * 2


def test_a_gap_that_no_row_stands_for_is_in_the_ledger_of_the_files():
    desk = dynamic(3, saved=["frame"])

    desk.tell(0, np.concatenate([rows(0), gaps(1), rows(2, first_row=1)]))

    saved = desk.books.saved["frame"]
    assert desk.codes(3, saved) == ["VALID", "DROPPED", "VALID"]
    assert saved.entries(0, 3).row[:, 0].tolist() == [0, -1, 1]


# Sums


def test_records_of_sums_are_in_the_order_of_their_indices():
    desk = Desk(16, depth=4)
    for idx in (0, 2):
        desk.books.tell(0, {SUMS: sums(idx)})
    desk.books.settle({})
    assert desk.records() == [0]

    desk.books.tell(1, {SUMS: sums(1, 3, receiver=1)})

    assert desk.records() == [1, 2, 3]


def test_sums_of_a_lost_receiver_are_missing_in_their_places():
    desk = Desk(32, depth=4, saved=["frame"])
    desk.tell(1, rows(*range(1, 8, 2)), records=False, saved=False)

    for k in range(4):
        desk.books.tell(0, {SUMS: sums(2 * k), ROWS + "frame": rows(2 * k, first_row=k)})
        desk.books.settle({1: LOST})

    assert desk.records() == [0, -2, 2, -4, 4, -6, 6]
    saved = desk.books.saved["frame"]
    assert desk.codes(8, saved) == ["VALID", "RECEIVER_LOST"] * 4
    desk.books.end(32, True, {0: NEVER, 1: LOST})
    assert desk.records() == [-8]


def test_sums_that_were_never_begun_were_never_sent():
    desk = Desk(32, depth=4, saved=["frame"])
    desk.tell(0, rows(0, 2, 4), records=False, saved=False)
    desk.tell(1, rows(1, 3, 5), records=False, saved=False)
    for receiver in (0, 1):
        news = {SUMS: sums(receiver), ROWS + "frame": rows(receiver)}
        desk.books.tell(receiver, news)

    desk.books.end(6, True, {0: NEVER, 1: NEVER})

    assert desk.records() == [0, 1]
    assert desk.codes(8, desk.books.saved["frame"]) == ["VALID"] * 2 + ["NEVER_SENT"] * 6
    assert desk.ledger.summary().counts == {Validity.VALID: 6, NEVER: 26}


def test_sums_in_dynamic_dispatch_are_as_many_as_came():
    desk = dynamic(ENDLESS, depth=4, saved=["frame"])
    for k in range(3):
        desk.books.tell(0, {SUMS: sums(2 * k), ROWS + "frame": rows(2 * k, first_row=k)})
    desk.books.tell(1, {SUMS: sums(1), ROWS + "frame": rows(1)})

    desk.books.end(16, True, {0: NEVER, 1: NEVER})

    assert desk.records() == [0, 1, 2, -4, 4]
    assert desk.codes(5, desk.books.saved["frame"])[3] == "NEVER_SENT"


@pytest.mark.parametrize("ended", list(itertools.product([False, True], repeat=2)))
def test_sums_can_be_asked_for_as_soon_as_all_before_them_are_made(ended):
    books = Desk(ENDLESS, depth=4).books

    count = books.accessible("frame", lambda receiver: ended[receiver], [3, 1])  # 0 2 4, and 1

    assert count == {(0, 0): 3, (0, 1): 6, (1, 0): 3, (1, 1): 5}[ended]


def test_frames_can_be_asked_for_up_to_the_front():
    desk = Desk(10)
    desk.tell(0, rows(0, 2, 4))
    desk.tell(1, rows(1))

    assert desk.books.accessible("frame", lambda receiver: False, [3, 1]) == 3


def test_sums_of_parts_are_the_same_on_all_receivers():
    desk = Desk(8, strips=True, depth=4, saved=["frame"])

    assert desk.books.groups("frame", 9) == 3
    assert desk.books.expected_of("frame") == 2
    assert desk.books.accessible("input_frame", lambda receiver: False, [2, 1]) == 0
    for receiver in (0, 1):
        desk.books.tell(receiver, {ROWS + "frame": rows(0, 1)})
    assert desk.codes(2, desk.books.saved["frame"]) == ["VALID"] * 2
    assert desk.books.saved["frame"].front == 2


@pytest.mark.parametrize(("ended", "count"), [((0, 0), 1), ((0, 1), 2), ((1, 0), 1), ((1, 1), 2)])
def test_unsaved_sums_of_parts_can_be_asked_for_once_all_have_them(ended, count):
    books = Desk(8, strips=True, depth=4).books

    assert books.accessible("frame", lambda receiver: bool(ended[receiver]), [2, 1]) == count


# Records of parts


class PartsDesk:
    """Books of two receivers that each have a part of every frame."""

    def __init__(self, expected, **changed):
        strips = [(0, 2), (2, 4)]
        each = [describe(strip=s, streams={SUMS: 1}, reaches=True, **changed) for s in strips]
        self.books = Books(layout_of(each), 2, expected)
        self.cursor = self.books.mergers[SUMS].stream.cursor()

    def tell(self, receiver, told, *records, gone=None):
        news = {LEDGER: told}
        if records:
            news[SUMS] = part_sums(*records, receiver=receiver)
        self.books.tell(receiver, news)
        self.books.settle(gone or {})

    def records(self):
        """Indices of the records that came, negative (minus one) where they have no value."""
        told = self.cursor.read()
        idx = told["frame_idx"]
        assert (np.isnan(told["sum"]) | (told["sum"] == 20 * idx)).all()
        return np.where(np.isnan(told["sum"]), -idx - 1, idx).tolist()


def test_records_of_a_frame_come_once_all_parts_have_told_of_it():
    desk = PartsDesk(4)

    desk.tell(0, rows(0, 1, 2), 0, 1, 2)
    assert desk.records() == []
    desk.tell(1, rows(0), 0)
    desk.tell(1, rows(1, first_row=1))  # its records are on their way

    assert desk.records() == [0]
    desk.tell(1, rows(2, first_row=2), 1, 2)
    assert desk.records() == [1, 2]


@pytest.mark.parametrize("has_row", [True, False])
def test_a_part_that_is_missing_delays_no_records(has_row):
    desk = PartsDesk(4)
    missing = rows(1, first_row=1, code=Validity.PACKET_LOSS) if has_row else gaps(1)

    desk.tell(0, rows(0, 1, 2), 0, 1, 2)
    desk.tell(1, np.concatenate([rows(0), missing, rows(2, first_row=2)]), 0, 2)

    assert desk.records() == [0, -2, 2]


def test_a_frame_without_any_part_has_records_without_values():
    desk = PartsDesk(3)

    for receiver in (0, 1):
        desk.tell(receiver, np.concatenate([rows(0), gaps(1), rows(2, first_row=1)]), 0, 2)

    assert desk.records() == [0, -2, 2]


@pytest.mark.parametrize("expected", [6, ENDLESS])
def test_without_a_lost_receiver_records_go_on_coming(expected):
    desk = PartsDesk(expected)
    desk.tell(0, rows(0, 1), 0, 1)
    desk.tell(1, rows(0), 0)

    desk.tell(0, rows(2, 3, first_row=2), 2, 3, gone={1: LOST})
    assert desk.records() == [0, -2, -3, -4]

    desk.tell(0, rows(4, 5, first_row=4), 4, 5, gone={1: LOST})
    assert desk.records() == [-5, -6]


def test_at_the_end_all_frames_that_were_sent_have_records():
    desk = PartsDesk(10)
    desk.tell(0, rows(0, 1, 2), 0, 1, 2)
    desk.tell(1, rows(0, 1), 0, 1)

    desk.books.end(4, True, {0: NEVER, 1: FAULT})

    assert desk.records() == [0, 1, -3, -4]


def test_records_of_sums_of_parts_are_put_together():
    desk = PartsDesk(8, depth=2)
    for receiver in (0, 1):
        desk.tell(receiver, rows(*range(6)), *range(3 - receiver))
    assert desk.records() == [0, 1]

    desk.books.settle({1: LOST})
    assert desk.records() == [-3]

    desk.books.end(8, True, {0: NEVER, 1: LOST})
    assert desk.records() == [-4]


# A detector that fails


def failed(desk, gone=None):
    """Close the books on it; all receivers end well if nothing else is said."""
    gone = gone or dict.fromkeys(range(2), NEVER)
    desk.books.settle(gone)
    desk.books.break_off(gone)
    assert desk.ledger.summary().adds_up


@pytest.mark.parametrize("make", [Desk, dynamic])
def test_the_last_frame_that_anybody_saw_parts_what_was_lost_from_what_was_never_sent(make):
    desk = make(10, saved=["frame"])
    desk.tell(0, rows(0, 4))
    desk.tell(1, rows(1))

    failed(desk)

    lost, never = "PACKET_LOSS", "NEVER_SENT"
    expected = ["VALID", "VALID", lost, lost, "VALID", *[never] * 5]
    assert desk.codes(10) == desk.codes(10, desk.books.saved["frame"]) == expected
    assert desk.records()[:5] == [0, 1, -3, -4, 4]


def test_what_was_taken_for_lost_at_the_end_was_never_sent():
    desk = Desk(8, saved=["frame"])
    tail = np.concatenate([rows(0), gaps(2, 4, 6, code=Validity.PACKET_LOSS)])
    desk.tell(0, tail)
    desk.tell(1, np.concatenate([rows(1), gaps(3, code=Validity.OVERRUN)]))

    failed(desk)

    seen = ["VALID", "VALID", "PACKET_LOSS", "OVERRUN"]
    assert desk.codes(8) == desk.codes(8, desk.books.saved["frame"]) == seen + ["NEVER_SENT"] * 4


def test_of_parts_the_one_that_saw_most_decides():
    desk = Desk(6, strips=True)
    desk.tell(0, rows(0, 1, 2, 3))
    desk.tell(1, np.concatenate([rows(0), gaps(1, 2, code=Validity.PACKET_LOSS)]))
    desk.tell(0, gaps(4, code=Validity.PACKET_LOSS))

    failed(desk)

    assert desk.codes(6) == ["VALID", *["PARTIAL"] * 3, "NEVER_SENT", "NEVER_SENT"]


def test_a_lost_receiver_has_lost_only_what_was_sent():
    desk = Desk(8)
    desk.tell(0, rows(0, 2, 4))
    desk.tell(1, rows(1), gone={1: LOST})

    failed(desk, {0: FAULT, 1: LOST})

    there = ["VALID", "VALID", "VALID", "RECEIVER_LOST", "VALID"]
    assert desk.codes(8) == there + ["NEVER_SENT"] * 3


def test_an_endless_run_ends_with_the_last_frame_of_a_detector_that_failed():
    desk = Desk(ENDLESS)
    desk.tell(0, rows(0, 2))
    desk.tell(1, rows(1))

    failed(desk)

    assert desk.codes(3) == ["VALID"] * 3
    assert desk.ledger.expected == 3


def test_nothing_of_a_detector_that_failed_at_once_was_sent():
    desk = Desk(4)

    failed(desk)

    assert desk.codes(4) == ["NEVER_SENT"] * 4


def test_sums_that_nobody_made_of_a_detector_that_failed_are_no_losses():
    desk = Desk(16, depth=4, saved=["frame"])
    desk.tell(0, rows(0, 2, 4, 6, 8), records=False, saved=False)
    desk.tell(1, rows(1, 3, 5), records=False, saved=False)
    desk.books.tell(0, {SUMS: sums(0), ROWS + "frame": rows(0)})

    failed(desk)

    assert desk.codes(10)[5:] == ["VALID", "VALID", "PACKET_LOSS", "VALID", "NEVER_SENT"]
    assert desk.codes(4, desk.books.saved["frame"]) == ["VALID"] + ["NEVER_SENT"] * 3
