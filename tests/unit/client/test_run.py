"""Frames and results of a run, live and afterwards, from devices that follow a script."""

import json

import numpy as np
import pytest

from client import (
    ClientError,
    DeadlineError,
    Frame,
    Gap,
    IncompleteError,
    NotAvailableError,
    UnreachableError,
    Validity,
    wire,
)
from client.frames import OPEN
from tests.unit.client.scripted import ROI, ScriptedRun, batch, ledger_of

LOST, NEVER = int(Validity.DROPPED), int(Validity.NEVER_SENT)


def kinds(frames):
    return [(item.idx, "frame" if isinstance(item, Frame) else item.cause.name) for item in frames]


def test_frames_come_in_order_as_they_are_settled_and_gaps_are_values():
    script = ScriptedRun(
        ("prepared", []),
        ("running", [0, OPEN, 0]),
        ("running", [0, LOST, 0, OPEN]),
        ("running", [0, LOST, 0, OPEN]),
        ("done", [0, LOST, 0, 1]),
    )

    found = list(script.run.frames(timeout_s=20))

    assert kinds(found) == [(0, "frame"), (1, "DROPPED"), (2, "frame"), (3, "frame")]
    assert [item.data.item() for item in found if isinstance(item, Frame)] == [0, 2, 3]
    assert found[3].validity is Validity.PARTIAL
    assert found[2].timestamp_s == 2.0


def test_frames_end_with_the_last_that_was_exposed():
    script = ScriptedRun(
        ("running", [0, NEVER, 0, NEVER, OPEN]), ("done", [0, NEVER, 0, *[NEVER] * 3])
    )

    assert kinds(script.run.frames()) == [(0, "frame"), (1, "NEVER_SENT"), (2, "frame")]


def test_a_part_of_the_frames_is_enough():
    script = ScriptedRun(("running", [0] * 6 + [OPEN]))

    assert kinds(script.run.frames(2, 4)) == [(2, "frame"), (3, "frame")]


def test_a_frame_that_is_forgotten_is_a_gap_that_says_so():
    script = ScriptedRun(("done", [0, 0]))
    script.forgotten = (0,)

    gap, frame = script.run.frames()

    assert gap == Gap(0, Validity.VALID, "frame 0 is not available any more")
    assert isinstance(frame, Frame)


def test_a_receiver_that_is_silent_for_a_moment_is_asked_again_for_its_frame():
    script = ScriptedRun(("done", [0, 0]))
    give = script.commands[wire.GET_FRAME]
    silences = [UnreachableError("receiver 1 does not answer")] * 2

    def give_late(asked):
        if silences:
            raise silences.pop()
        return give(asked)

    script.commands[wire.GET_FRAME] = give_late

    assert kinds(script.run.frames()) == [(0, "frame"), (1, "frame")]


def test_who_waits_for_a_frame_waits_no_longer_than_allowed():
    script = ScriptedRun(("running", [0, OPEN]))
    frames = script.run.frames(timeout_s=0.05)

    next(frames)
    with pytest.raises(DeadlineError, match=r"0\.05 s"):
        next(frames)


def test_sums_of_frames_are_given_as_they_become_accessible():
    script = ScriptedRun(("done", []))
    script.values[wire.SOURCES] = json.dumps({"frame": {"accessible": 2, "depth": 5}})
    script.commands[wire.READ_SOURCE_LEDGER] = lambda _: ledger_of([0, OPEN])

    assert kinds(script.run.frames()) == [(0, "frame"), (1, "frame")]


def test_sums_that_are_missing_are_gaps_and_those_of_fewer_frames_are_partial():
    script = ScriptedRun(("done", []))
    script.values[wire.SOURCES] = json.dumps({"frame": {"accessible": 5, "depth": 2}})
    codes, asked = [0, LOST, int(Validity.PARTIAL), 0, NEVER], []

    def answer(text):
        asked.append(json.loads(text))
        return ledger_of(codes[asked[-1]["first"] : asked[-1]["last"]][:3])

    script.commands[wire.READ_SOURCE_LEDGER] = answer

    found = list(script.run.frames(source="frame"))

    assert kinds(found) == [(0, "frame"), (1, "DROPPED"), (2, "frame"), (3, "frame")]
    assert found[2].validity is Validity.PARTIAL
    assert asked == [{"source": "frame", "first": first, "last": 5} for first in (0, 3)]


def test_unknown_sources_and_streams_are_refused_with_those_there_are():
    script = ScriptedRun(("done", []))

    with pytest.raises(NotAvailableError, match="there are: frame"):
        next(script.run.frames(source="raw"))
    with pytest.raises(NotAvailableError, match="there are: roi_statistics, other"):
        script.run.results("raw")


@pytest.mark.parametrize(
    ("value", "sent"), [(293.2, 293.2), (np.float32(0.5), 0.5), (np.arange(2), [0, 1]), ((1,), [1])]
)
def test_a_note_is_sent_as_plain_values_and_its_time_is_that_of_the_server(value, sent):
    script = ScriptedRun(("running", []))
    script.commands[wire.ADD_NOTE] = 12.5

    assert script.run.note("temperature", value, unit="K") == 12.5

    command, argument = script.calls[-1]
    assert command == wire.ADD_NOTE
    assert json.loads(argument) == {"name": "temperature", "value": sent, "unit": "K"}


def test_wait_ends_with_the_run_and_what_is_final_is_asked_for_once():
    script = ScriptedRun(("done", []))
    script.steps[0] = (["prepared", "running", "ending", "done"], [])
    run = script.run

    assert run.wait(20) is run
    script.values.clear()  # the device is gone

    assert (run.phase, run.complete, run.verdict) == ("done", True, "as it is")
    assert str(run.master_file) == "/nowhere/p_master.h5"
    assert run.check() is run


def test_wait_survives_a_device_that_is_silent_for_a_while():
    script = ScriptedRun(("done", []))
    script.steps[0] = (["running", UnreachableError("gone"), UnreachableError("gone"), "done"], [])

    assert script.run.wait(20).complete


def test_wait_has_an_end_and_tells_if_the_run_is_gone():
    with pytest.raises(DeadlineError, match="not within"):
        ScriptedRun(("running", [])).run.wait(0.05)
    with pytest.raises(NotAvailableError):
        ScriptedRun((NotAvailableError("there is no device"), [])).run.wait(20)


def test_check_raises_where_frames_are_missing():
    with pytest.raises(IncompleteError, match="as it is"):
        ScriptedRun(("incomplete", [])).run.check()


def test_the_ledger_has_every_frame_and_its_counts_add_up():
    script = ScriptedRun(("running", [0, LOST, 0, OPEN, NEVER]))

    ledger = script.run.ledger

    assert len(ledger) == 5
    assert ledger.counts == {Validity.VALID: 2, Validity.DROPPED: 1, Validity.NEVER_SENT: 1}
    assert sum(ledger.counts.values()) + ledger.open == len(ledger)
    assert (ledger.lost, ledger.open, ledger.complete) == (1, 1, False)
    assert ledger.where().tolist() == [1]
    assert ledger.where(Validity.VALID).tolist() == [0, 2]
    assert str(ledger) == "as it is"


def test_a_ledger_may_be_empty():
    assert len(ScriptedRun(("prepared", [])).run.ledger) == 0


def test_progress_leaves_out_what_it_does_not_know():
    script = ScriptedRun(("running", []))
    script.values[wire.PROGRESS] = json.dumps({"expected": 8, "time_to_overrun_s": None, "new": 1})

    progress = script.run.progress

    assert progress.expected == 8
    assert progress.time_to_overrun_s == float("inf")


def cursor(script, *answers):
    """Let cursors give these answers, one after the other."""
    opened = iter(range(1, 100))
    script.commands[wire.OPEN_CURSOR] = lambda _: next(opened)
    script.commands[wire.READ_CURSOR] = list(answers)


def test_results_are_batches_of_whole_frames_until_the_run_is_processed():
    script = ScriptedRun(("running", []))
    cursor(script, batch(0, 2), batch(2, 2), batch(2, 3), batch(3, 3, finished=True))

    found = list(script.run.results("roi", timeout_s=20))

    assert [one.shape for one in found] == [(2, 2), (1, 2)]
    assert found[1]["frame_idx"].tolist() == [[2, 2]]
    assert script.calls[-1] == (wire.CLOSE_CURSOR, 1)


def test_all_results_are_one_array_that_may_be_empty():
    script = ScriptedRun(("done", []))
    cursor(script, batch(0, 3), batch(3, 3, finished=True))
    assert script.run.results("roi").all()["sum"][:, 0].tolist() == [0, 1, 2]

    cursor(script, batch(0, 0, finished=True))
    empty = script.run.results("roi").all()

    assert (empty.shape, empty.dtype) == ((0, 2), ROI)


def test_an_answer_that_is_lost_costs_no_records():
    script = ScriptedRun(("done", []))
    # The second answer is lost on its way; a new cursor gives everything again.
    cursor(script, batch(0, 2), UnreachableError("lost"), batch(0, 4), batch(4, 4, finished=True))

    found = script.run.results("roi").all(20)

    assert found["frame_idx"][:, 0].tolist() == [0, 1, 2, 3]


def test_records_that_are_really_lost_are_told():
    script = ScriptedRun(("done", []))
    cursor(script, batch(0, 2), batch(3, 4))

    with pytest.raises(ClientError, match="lost"):
        script.run.results("roi").all(20)


def test_results_that_do_not_come_are_waited_for_no_longer_than_allowed():
    script = ScriptedRun(("running", []))
    cursor(script, batch(0, 0))

    with pytest.raises(DeadlineError):
        script.run.results("roi").all(0.05)
    assert np.dtype(ROI) == script.run.results("other").dtype
