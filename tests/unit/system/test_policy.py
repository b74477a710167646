"""How a run ends, by its policy: well, incomplete, or early; and what people are told."""

from dataclasses import replace

import numpy as np
import pytest

from lima2_core.data.frame import Validity
from lima2_core.errors import Lima2Error, ParamError
from lima2_core.ids import AcqId
from lima2_core.state.system import Phase, PhaseEvent
from lima2_core.system.member import Member
from lima2_core.system.outputs import Survivors
from lima2_core.system.policy import FaultPolicy
from lima2_core.system.ports import UnreachableError
from lima2_core.system.run import SystemRun
from lima2_core.testing.system_doubles import Manners, ScriptedRun
from lima2_core.testing.system_script import describe, gaps, order, rows


class Rig:
    """A run of ten frames on two receivers that tell what the test wants."""

    def __init__(self, saved=(), nb_frames=10, started=True, keeps_rows=True, **policy):
        asked = order(nb_frames, **policy)
        descriptions = [replace(describe(saved=saved), keeps_rows=keeps_rows)] * 2
        self.receivers = [
            ScriptedRun(Manners(f"r{n}"), asked.part(n, AcqId("a")), description)
            for n, description in enumerate(descriptions)
        ]
        members = [Member(f"r{n}", receiver) for n, receiver in enumerate(self.receivers)]
        self.changes = []
        self.run = SystemRun(
            AcqId("a"),
            asked,
            asked.acquisition,
            {},
            members,
            descriptions,
            "",
            self.changes.append,
        )
        if started:
            self.run.feed(PhaseEvent.START)

    def tell(self, receiver, told=None, error="", code="pipeline", finished=True, **status):
        port = self.receivers[receiver]
        if told is not None:
            port.tell(told)
        port.change(state="running", **status)
        if finished:
            port.finish(error, code)
        self.run.take(receiver, port.news())

    def end(self, exposed=10, survivors=lambda source, receiver: None):
        self.run.note_exposed(exposed)
        self.run.settle(survivors)
        return self.run

    def counts(self):
        return {code.name: n for code, n in self.run.ledger.summary().counts.items()}


EVEN, ODD = rows(0, 2, 4, 6, 8), rows(1, 3, 5, 7, 9)
ODD_WITH_A_GAP = np.concatenate([rows(1), gaps(3), rows(5, 7, 9)])


def test_a_run_without_losses_is_complete():
    rig = Rig()
    rig.tell(0, EVEN)
    rig.tell(1, ODD)

    run = rig.end()

    assert run.complete
    assert run.breach() is None
    assert run.verdict() == "all 10 frames are valid"
    assert rig.changes == [run, run]


@pytest.mark.parametrize(
    ("policy", "complete"),
    [
        ({"frame_lost": "mark"}, False),
        ({"frame_lost": "fail"}, False),
        ({"frame_lost": "tolerate", "tolerated": 0.05}, False),
        ({"frame_lost": "tolerate", "tolerated": 0.1}, True),
    ],
)
def test_a_lost_frame_is_judged_by_the_policy(policy, complete):
    rig = Rig(**policy)
    rig.tell(0, EVEN)
    rig.tell(1, ODD_WITH_A_GAP)

    run = rig.end()

    assert run.complete is complete
    assert (run.breach() is not None) is (policy["frame_lost"] == "fail")
    assert run.verdict() == "9 of 10 frames are valid; 1 dropped"


def test_vetoes_and_frames_never_sent_are_no_losses():
    rig = Rig(frame_lost="fail")
    rig.tell(0, np.concatenate([rows(0), gaps(2, code=Validity.VETO)]))
    rig.tell(1, rows(1))

    run = rig.end(exposed=3)

    assert run.breach() is None
    assert run.complete
    assert run.verdict() == "2 of 10 frames are valid; 1 veto, 7 never sent"


@pytest.mark.parametrize(
    ("policy", "complete", "stops"),
    [
        ({}, False, False),
        ({"frame_lost": "fail"}, False, True),
        ({"frame_lost": "tolerate", "tolerated": 0.1}, True, False),
        ({"frame_lost": "tolerate", "tolerated": 0.0}, False, False),
        ({"frame_lost": "fail", "frame_partial": "accept"}, True, False),
        ({"frame_partial": "accept"}, True, False),
    ],
)
def test_incomplete_frames_count_as_lost_unless_they_are_accepted(policy, complete, stops):
    rig = Rig(**policy)
    rig.tell(0, np.concatenate([rows(0), rows(2, code=Validity.PARTIAL), rows(4, 6, 8)]))
    rig.tell(1, ODD)

    run = rig.end()

    assert (run.breach() is not None) is stops
    assert run.complete is complete
    assert run.verdict() == "9 of 10 frames are valid; 1 partial"


def test_frames_that_a_stop_cut_off_are_not_held_against_the_run():
    rig = Rig(nb_frames=0, frame_lost="fail")
    rig.tell(0, np.concatenate([rows(0, 2), rows(4, code=Validity.PARTIAL)]), finished=False)
    assert rig.run.breach() is not None
    rig.run.interrupted = True
    assert rig.run.breach() is None
    rig.tell(0)
    rig.tell(1, np.concatenate([rows(1), rows(3, code=Validity.PARTIAL)]))

    run = rig.end(exposed=5)

    # The last of each receiver.
    assert run.complete
    assert run.verdict() == "3 of 5 frames are valid; 2 partial"


def test_incomplete_frames_before_a_stop_count():
    rig = Rig(nb_frames=0)
    rig.run.interrupted = True
    rig.tell(0, np.concatenate([rows(0), rows(2, code=Validity.PARTIAL), rows(4)]))
    rig.tell(1, rows(1, 3))

    assert not rig.end(exposed=5).complete


@pytest.mark.parametrize(
    ("policy", "ends"), [("abort", True), ("continue", False), ("mark", False)]
)
def test_a_receiver_that_fails_is_judged_by_the_policy_like_a_lost_one(policy, ends):
    rig = Rig(receiver_lost=policy)
    rig.tell(0, EVEN, finished=False)
    rig.tell(1, rows(1), error="task failed")

    breach = rig.run.breach()

    assert (breach is not None) is ends
    assert not ends or "r1: task failed" in str(breach)


def test_a_receiver_that_takes_no_incomplete_frames_ends_the_run_of_all():
    rig = Rig()
    rig.tell(0, rows(0, 2), finished=False)
    rig.tell(1, rows(1), error="frame 3 is incomplete", code="partial_frame")

    assert str(rig.run.breach()) == "r1: frame 3 is incomplete"
    rig.run.interrupted = True
    rig.tell(0)
    run = rig.end(exposed=5)

    assert rig.counts() == {"VALID": 3, "RECEIVER_LOST": 1, "NEVER_SENT": 6}
    assert not run.complete


@pytest.mark.parametrize(
    ("policy", "complete", "ends"),
    [("abort", False, True), ("continue", True, False), ("mark", False, False)],
)
def test_a_lost_receiver_is_judged_by_the_policy(policy, complete, ends):
    rig = Rig(receiver_lost=policy, saved=["frame"])
    rig.tell(1, rows(1, 3), finished=False, flushed={"frame": 1})
    rig.tell(0, EVEN)

    rig.run.lose(1, "r1 died")
    breach = rig.run.breach()
    run = rig.end()

    assert rig.counts() == {"VALID": 6, "RECEIVER_LOST": 3, "CRASH": 1}
    assert run.complete is complete
    assert isinstance(breach, UnreachableError) is ends
    assert run.verdict().endswith("1 crash (r1 died)")


def test_other_losses_are_not_forgiven_with_those_of_a_lost_receiver():
    rig = Rig(receiver_lost="continue")
    rig.tell(0, np.concatenate([rows(0), gaps(2), rows(4, 6, 8)]))
    rig.run.lose(1, "r1 died")

    assert not rig.end().complete


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pipeline", "PROCESSING_FAULT"),
        ("storage", "PROCESSING_FAULT"),
        ("overrun", "OVERRUN"),
        ("camera", "DROPPED"),
    ],
)
def test_frames_that_a_receiver_did_not_take_have_the_class_of_its_error(code, expected):
    rig = Rig()
    rig.tell(0, EVEN)
    rig.tell(1, rows(1, 3), error="it broke", code=code)

    run = rig.end()

    assert rig.counts() == {"VALID": 7, expected: 3}
    assert not run.complete
    assert run.causes == ["r1: it broke"]
    assert run.verdict() == (
        f"7 of 10 frames are valid; 3 {expected.lower().replace('_', ' ')} (r1: it broke)"
    )


def test_an_error_that_lost_no_frame_is_an_error_still():
    rig = Rig()
    rig.tell(0, EVEN)
    rig.tell(1, ODD, error="the file could not be closed", code="storage")

    assert not rig.end().complete


def test_rows_that_a_full_disk_did_not_take_are_lost():
    rig = Rig(saved=["frame"])
    rig.tell(0, EVEN, flushed={"frame": 5})
    rig.tell(1, ODD, error="no space", code="storage", flushed={"frame": 2})

    run = rig.end()

    assert rig.counts() == {"VALID": 7, "PROCESSING_FAULT": 3}
    saved = run.view.saved["frame"]
    assert (saved.flushed(0), saved.flushed(1)) == (5, 2)
    assert saved.ledger.summary().sentence() == "7 of 10 frames are valid; 3 processing fault"


@pytest.mark.parametrize(("found", "crashed"), [(None, 3), (0, 5), (3, 2), (5, 0)])
def test_rows_of_a_dead_receiver_count_as_far_as_the_files_show_them(found, crashed):
    rig = Rig(saved=["frame"])
    rig.tell(0, EVEN, flushed={"frame": 5})
    rig.tell(1, ODD, finished=False, flushed={"frame": 2})
    rig.run.lose(1, "r1 died")

    rig.end(survivors=lambda source, receiver: None if found is None else Survivors(found))

    assert rig.counts().get("CRASH", 0) == crashed
    assert rig.run.ledger.summary().adds_up


@pytest.mark.parametrize(
    ("found", "there"), [(None, [1, 3]), (2, [1, 3]), (3, [1, 3, 5]), (5, [1, 3, 5, 7, 9])]
)
def test_frames_in_the_files_of_a_dead_receiver_count_though_it_did_not_tell(found, there):
    rig = Rig(saved=["frame"])
    rig.tell(0, EVEN, flushed={"frame": 5})
    rig.tell(1, rows(1, 3), finished=False, flushed={"frame": 2})
    rig.run.lose(1, "r1 died")

    left = None if found is None else Survivors(found, None, np.zeros(found - 2, np.uint8))
    run = rig.end(survivors=lambda source, receiver: left)

    for ledger in (run.ledger, run.view.saved["frame"].ledger):
        entries = ledger.entries(0, 10)
        assert np.flatnonzero(entries.code[1::2] == Validity.VALID).tolist() == [
            idx // 2 for idx in there
        ]
        assert entries.row[there, 0].tolist() == list(range(len(there)))
        assert set(entries.receiver[there].tolist()) == {1}
        assert ledger.summary().adds_up
    assert not run.complete


@pytest.mark.parametrize(
    ("untold", "there"), [(None, [1, 3]), ([6, 5], [1, 3, 5, 6]), ([6], [1, 3])]
)
def test_files_tell_which_frames_a_dead_receiver_had_where_nobody_else_knows(untold, there):
    rig = Rig(saved=["frame"], keeps_rows=False)
    others = [idx for idx in range(10) if idx not in (1, 3, 5, 6)]
    rig.tell(0, rows(*others), flushed={"frame": 6})
    rig.tell(1, rows(1, 3), finished=False, flushed={"frame": 2})
    rig.run.lose(1, "r1 died")
    left = Survivors(4, None if untold is None else np.array(untold), np.zeros(2, np.uint8))

    run = rig.end(survivors=lambda source, receiver: left)

    ledger = run.view.saved["frame"].ledger
    entries = ledger.entries(0, 10)
    found = np.flatnonzero((entries.code == Validity.VALID) & (entries.receiver == 1))
    assert found.tolist() == there
    assert entries.row[[1, 3], 0].tolist() == [0, 1]
    if len(there) == 4:
        assert entries.row[[6, 5], 0].tolist() == [2, 3]
    assert ledger.summary().adds_up


def test_what_the_files_of_a_dead_receiver_say_of_their_rows_is_believed():
    rig = Rig(saved=["input_frame"])
    rig.tell(0, EVEN, flushed={"input_frame": 5})
    rig.tell(1, rows(1), finished=False, flushed={"input_frame": 1})
    rig.run.lose(1, "r1 died")
    codes = [Validity.PARTIAL, Validity.VETO, Validity.OVERRUN, Validity.VALID]

    run = rig.end(survivors=lambda source, receiver: Survivors(5, None, np.array(codes, np.uint8)))

    saved = run.view.saved["input_frame"].ledger.entries(0, 10)
    assert saved.code[1::2].tolist() == [Validity.VALID, *codes]
    # A frame that was not to be saved went down with the receiver.
    codes[1] = Validity.RECEIVER_LOST
    assert run.ledger.entries(0, 10).code[1::2].tolist() == [Validity.VALID, *codes]
    assert run.ledger.summary().adds_up


def test_outputs_are_asked_about_the_dead_only():
    rig = Rig(saved=["frame", "input_frame"])
    asked = []
    rig.tell(0, EVEN, flushed={"frame": 5, "input_frame": 5})
    rig.run.lose(1, "r1 died")

    rig.end(survivors=lambda source, receiver: asked.append((source, receiver)))

    assert asked == [("frame", 1), ("input_frame", 1)]


@pytest.mark.parametrize("frame_lost", ["mark", "tolerate"])
def test_a_broken_detector_is_not_tolerated(frame_lost):
    rig = Rig(frame_lost=frame_lost, tolerated=1.0)
    rig.run.fail("control: it is too hot")
    rig.tell(0, rows(0))
    rig.tell(1, rows(1))

    run = rig.end(exposed=2)

    assert not run.complete
    assert run.verdict() == "2 of 10 frames are valid; 8 never sent (control: it is too hot)"


def test_a_cause_is_told_once():
    rig = Rig()
    rig.tell(0, rows(0), error="it broke", finished=False)
    rig.receivers[0].change(error="it broke")
    for _ in range(3):
        rig.run.take(0, rig.receivers[0].news())
    for _ in range(2):
        rig.run.fail("control: hot")
        rig.run.lose(1, "r1 died")

    assert rig.run.causes == ["r0: it broke", "control: hot", "r1 died"]


def test_what_a_lost_receiver_tells_later_is_not_heard():
    rig = Rig()
    rig.run.lose(1, "r1 died")

    rig.tell(1, ODD)

    assert rig.counts() == {"RECEIVER_LOST": 5}
    assert rig.run.received == 0


def test_a_receiver_that_has_ended_cannot_be_lost():
    rig = Rig()
    rig.tell(1, ODD)

    rig.run.lose(1, "r1 died")

    assert rig.run.causes == []


def test_a_run_that_never_was_has_all_its_frames_unsent():
    rig = Rig(started=False)

    rig.run.discard()
    rig.tell(0, EVEN)
    rig.run.lose(1, "r1 has lost the run")

    assert rig.run.verdict() == "0 of 10 frames are valid; 10 never sent"
    assert rig.run.phase is Phase.DISCARDED


def test_counters_are_sums_over_the_receivers():
    rig = Rig()
    rig.tell(0, received=5, counters={"nb_frames_source": 5})
    assert (rig.run.received, rig.run.counter("nb_frames_source")) == (5, 5)
    rig.tell(1, received=4, counters={"nb_frames_source": 4})

    assert (rig.run.received, rig.run.counter("nb_frames_source")) == (9, 9)
    assert rig.run.counter("unknown") == 0


def test_each_receiver_gets_its_own_part_of_file_names():
    asked = order(saving={"filename_prefix": "a", "filename_rank": 0}, fifo={"nb": 1}, plain=3)

    parts = [asked.part(n, AcqId("a")).processing for n in (0, 1)]

    assert [part["saving"]["filename_rank"] for part in parts] == [0, 1]
    assert (parts[1]["fifo"], parts[1]["plain"]) == ({"nb": 1}, 3)


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        ({"receiver_lost": "panic"}, "receiver_lost"),
        ({"frame_lost": "ignore"}, "frame_lost"),
        ({"tolerated_fraction": 1.1}, "tolerated_fraction"),
    ],
)
def test_a_policy_that_does_not_exist_is_refused(tree, path):
    with pytest.raises(ParamError) as refused:
        FaultPolicy.from_tree(tree)

    assert refused.value.path == path
    assert isinstance(refused.value, Lima2Error)
