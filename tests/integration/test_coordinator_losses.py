"""Whatever gets lost, a system comes to rest, knows why, and the next acquisition works."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from lima2_core.data.frame import Validity
from lima2_core.data.rows import LEDGER
from lima2_core.errors import CameraError, NotAvailableError
from lima2_core.state.system import Phase
from lima2_core.system import detector, output_thread
from lima2_core.system import run as run_module
from lima2_core.system.outputs import Survivors
from lima2_core.system.watch import PATIENCE_S
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.testing.fakes import ManualClock
from lima2_core.testing.system_doubles import ScriptedOutput
from lima2_core.testing.system_script import SUMS, gaps, order, rows, sums
from tests.integration.coordinated import (
    ENDED,
    FAULT,
    IDLE,
    Scripted,
    Timer,
    codes,
    comes_to,
    counts,
    records,
    works,
)

SYSTEM = Scripted


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Waits for what an output finds in the files of a dead receiver."""
    monkeypatch.setattr(output_thread, "SURVIVORS_S", LIMIT_S)


# Receivers that are lost

POLICIES = ("abort", "continue", "mark")
WHERE = ("prepared", "running", "draining")


@pytest.mark.parametrize("keeps_rows", [True, False], ids=["known", "dynamic"])
@pytest.mark.parametrize(("where", "policy"), list(itertools.product(WHERE, POLICIES)))
def test_a_receiver_that_dies_is_named_and_the_others_go_on(make_system, where, policy, keeps_rows):
    rows_left = {("frame", 1): Survivors(1)}
    output = ScriptedOutput(rows_left=lambda *asked: rows_left.get(asked))
    system = make_system(outputs=[output], keeps_rows=keeps_rows, saved=["frame"])
    alive, dead = system.receivers
    run = system.prepare(order(10, receiver_lost=policy))
    told = [rows(0, 2, 4, 6, 8), rows(1, 3)]
    if where != "prepared":
        system.coordinator.start()
        alive.run.tell(told[0])
        dead.run.tell(told[1])
        assert eventually(lambda: run.ledger.summary().counts.get(Validity.VALID) == 7)
    if where == "draining":
        for receiver in system.receivers:
            receiver.run.change(state="draining")
        assert comes_to(run, Phase.DRAINING)
    system.expose(10)
    alive.run.change(flushed={"frame": 5})

    dead.manners.dead = True

    if where == "prepared":
        assert comes_to(run, Phase.DISCARDED)
        assert system.state is FAULT
        assert "r1 died" in str(system.coordinator.last_error)
        assert counts(run.ledger) == {"NEVER_SENT": 10}
    else:
        assert eventually(lambda: run.members[1].lost == "r1 died")
        alive.run.finish()
        assert comes_to(run, *ENDED)
        well = policy == "continue"
        assert run.phase is (Phase.DONE if well else Phase.INCOMPLETE)
        assert counts(run.ledger) == {"VALID": 6, "CRASH": 1, "RECEIVER_LOST": 3}
        assert codes(run.view.saved["frame"].ledger, 10) == codes(run.ledger, 10)
        assert run.verdict() == ("6 of 10 frames are valid; 3 receiver lost, 1 crash (r1 died)")
        aborted = policy == "abort" and where == "running"
        assert system.state is (FAULT if aborted else IDLE)
        if aborted:
            assert eventually(lambda: "stop" in alive.manners.calls)
        else:
            assert "stop" not in alive.manners.calls
    dead.manners.dead = False
    assert works(system)


def test_without_the_lost_receiver_frames_go_on_coming(make_system):
    system = make_system(streams={SUMS: 1})
    run = system.begin(order(0))  # without an end of its own
    cursor = run.view.streams[SUMS].cursor()
    alive, dead = system.receivers
    alive.run.tell(rows(0), **{SUMS: sums(0)})
    dead.run.tell(rows(1), **{SUMS: sums(1)})
    assert eventually(lambda: run.ledger.front == 2)
    dead.manners.dead = True
    assert eventually(lambda: run.members[1].lost)

    for idx in range(2, 20, 2):
        alive.run.tell(rows(idx), **{SUMS: sums(idx)})

    assert eventually(lambda: run.ledger.front == 19)
    told = records(cursor, 19)
    assert told["frame_idx"].tolist() == list(range(19))
    assert np.isnan(told["sum"]).nonzero()[0].tolist() == list(range(3, 19, 2))
    system.expose(20)
    system.coordinator.stop()
    assert comes_to(run, Phase.INCOMPLETE)
    assert counts(run.ledger) == {"VALID": 11, "RECEIVER_LOST": 9}


def test_a_silent_receiver_is_lost_after_a_while(system):
    run = system.begin(order(4))
    system.receivers[0].run.tell(rows(0, 2))
    system.expose(4)
    with Timer() as timer:
        system.receivers[1].manners.silent = True
        assert eventually(lambda: run.members[1].lost == "r1 does not answer")
    assert timer.took_s >= PATIENCE_S
    system.finish(0)

    assert comes_to(run, Phase.INCOMPLETE)
    assert codes(run.ledger, 4) == ["VALID", "RECEIVER_LOST"] * 2
    system.receivers[1].manners.silent = False
    assert works(system)


def test_a_receiver_that_was_started_again_has_lost_its_run(system):
    run = system.begin(order(4))
    system.expose(4)
    system.receivers[1].manners.errors["news"] = NotAvailableError("there is no such run here")
    system.finish(0)

    assert comes_to(run, Phase.INCOMPLETE)
    assert run.causes == ["r1 has lost the run: there is no such run here"]
    del system.receivers[1].manners.errors["news"]
    assert works(system)


def test_all_receivers_may_be_lost(system):
    run = system.begin(order(4))
    system.expose(2)
    for receiver in system.receivers:
        receiver.manners.dead = True

    assert comes_to(run, Phase.INCOMPLETE)
    assert counts(run.ledger) == {"RECEIVER_LOST": 2, "NEVER_SENT": 2}
    assert system.state is IDLE
    assert set(run.causes) == {"r0 died", "r1 died"}


def test_news_that_make_no_sense_are_those_of_a_lost_receiver(make_system, caplog):
    system = make_system(streams={SUMS: 2})
    run = system.begin(order(4))
    system.receivers[1].run.tell_of(SUMS, sums(1))  # half a frame
    system.receivers[0].run.tell_of(LEDGER, rows(0, 2))

    assert eventually(lambda: "makes no sense" in run.members[1].lost)
    system.finish(0)
    assert comes_to(run, Phase.INCOMPLETE)
    assert run.ledger.summary().adds_up


# Policies for frames


@pytest.mark.parametrize(
    ("policy", "phase", "state"),
    [
        ({"frame_lost": "mark"}, Phase.INCOMPLETE, IDLE),
        ({"frame_lost": "fail"}, Phase.INCOMPLETE, FAULT),
        ({"frame_lost": "tolerate", "tolerated": 0.25}, Phase.DONE, IDLE),
        ({"frame_lost": "tolerate", "tolerated": 0.2}, Phase.INCOMPLETE, IDLE),
    ],
)
def test_a_lost_frame_leads_where_the_policy_says(system, policy, phase, state):
    run = system.begin(order(4, **policy))
    system.receivers[0].run.tell(rows(0, 2))
    system.receivers[1].run.tell(gaps(1))
    if state is FAULT:
        assert eventually(lambda: system.state is FAULT)
        assert "first lost frame" in str(system.coordinator.last_error)
        assert eventually(lambda: "stop" in system.control.manners.calls)
    else:
        system.receivers[1].run.tell(rows(3))
        system.finish()

    assert comes_to(run, phase)
    assert system.state is state
    assert run.ledger.summary().counts[Validity.DROPPED] == 1
    assert works(system)


def test_a_receiver_whose_pipeline_failed_leaves_its_frames_and_the_others_go_on(system):
    run = system.begin(order(6))
    system.receivers[0].run.tell(rows(0, 2, 4))
    system.receivers[1].run.tell(rows(1))
    system.receivers[1].run.finish("task failed on frame 3")
    assert eventually(lambda: run.ledger.front == 6)
    assert run.phase is Phase.RUNNING
    system.expose(6)
    system.finish(0)

    assert comes_to(run, Phase.INCOMPLETE)
    assert run.verdict() == (
        "4 of 6 frames are valid; 2 processing fault (r1: task failed on frame 3)"
    )
    assert "task failed" in str(system.coordinator.last_error)
    assert works(system)


# The detector


def test_a_detector_that_fails_ends_the_run_with_its_cause(system):
    run = system.begin(order(10))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k))
    system.expose(2)
    system.control.fail("the sensor is too hot")

    assert comes_to(run, Phase.INCOMPLETE)
    assert system.state is FAULT
    assert "too hot" in str(system.coordinator.last_error)
    assert run.verdict() == (
        "2 of 10 frames are valid; 8 never sent (control: the sensor is too hot)"
    )
    assert works(system)


def test_a_detector_that_is_gone_ends_the_run(system):
    run = system.begin(order(10))
    system.receivers[0].run.tell(rows(0, 2))
    assert eventually(lambda: run.ledger.highest == 3)
    system.control.manners.dead = True

    assert comes_to(run, Phase.INCOMPLETE)
    assert run.verdict() == (
        "2 of 10 frames are valid; 1 packet loss, 7 never sent (control is gone)"
    )
    system.control.manners.dead = False
    assert works(system)


def test_a_detector_that_does_not_tell_its_count_does_not_delay_the_end(system):
    run = system.begin(order(4))
    system.receivers[0].run.tell(rows(0, 2))
    system.receivers[1].run.tell(rows(1, 3))
    assert eventually(lambda: run.ledger.front == 4)
    system.control.manners.hangs_s["status"] = 3600.0
    system.finish()

    assert comes_to(run, Phase.DONE)


def test_the_detector_is_watched_in_every_run_of_a_quick_sequence(system):
    for _ in range(3):
        assert works(system)
    run = system.begin(order(4))

    system.control.fail("too hot")

    assert comes_to(run, Phase.INCOMPLETE)
    assert system.state is FAULT


def test_frames_that_the_detector_did_not_expose_were_not_lost_with_a_receiver(make_system):
    system = make_system(keeps_rows=False)
    run = system.begin(order(10))
    system.receivers[0].run.tell(rows(0, 3))
    system.receivers[1].manners.dead = True
    assert eventually(lambda: run.members[1].lost)
    system.expose(5)
    system.coordinator.stop()

    assert comes_to(run, Phase.INCOMPLETE)
    lost = "RECEIVER_LOST"
    assert codes(run.ledger, 10) == ["VALID", lost, lost, "VALID", lost, *["NEVER_SENT"] * 5]


def test_a_detector_of_which_the_receivers_hear_first_has_failed_all_the_same(system):
    run = system.begin(order(10))
    told = np.concatenate([rows(0, 2), gaps(4, 6, 8, code=Validity.PACKET_LOSS)])
    for receiver, news in zip(system.receivers, (told, rows(1)), strict=True):
        receiver.run.tell(news)
        receiver.run.change(received=2)
    system.control.fail("the emulated detector died")
    system.finish()

    assert comes_to(run, Phase.INCOMPLETE)
    assert system.state is FAULT
    assert str(system.coordinator.last_error) == "control: the emulated detector died"
    assert run.verdict() == (
        "3 of 10 frames are valid; 7 never sent (control: the emulated detector died)"
    )
    assert works(system)


def test_what_becomes_of_a_detector_that_has_sent_all_does_not_matter(system):
    run = system.begin(order(4))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k, k + 2))
        receiver.run.change(received=2)
    assert eventually(lambda: run.received == 4)
    system.control.fail("it died")
    system.finish()

    assert comes_to(run, Phase.DONE)
    assert run.verdict() == "all 4 frames are valid"
    assert system.state is IDLE


def test_a_detector_that_may_be_lost_goes_on_as_long_as_its_frames_come(system, monkeypatch):
    clock = ManualClock()
    for module in (detector, run_module):
        told = SimpleNamespace(monotonic=clock.now_s, time=clock.wall_s)
        monkeypatch.setattr(module, "time", told)
    run = system.begin(order(10))
    system.control.doubt = "it does not answer"
    for idx in range(8):
        clock.advance(0.9 * detector.SILENCE_S)
        system.receivers[0].run.change(received=idx + 1)
        assert eventually(lambda: run.moved_s == clock.now_s())
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(*range(k, 8, 2)))
    assert eventually(lambda: run.ledger.front == 8)
    for doubt in ("it still does not answer", "it does not answer"):
        system.control.doubt = doubt
        assert eventually(lambda doubt=doubt: run.doubt == doubt)
    assert run.phase is Phase.RUNNING
    clock.advance(detector.SILENCE_S)

    assert comes_to(run, Phase.INCOMPLETE)
    assert system.state is FAULT
    assert run.verdict() == ("8 of 10 frames are valid; 2 never sent (control: it does not answer)")
    assert works(system)


def test_frames_that_do_not_come_of_a_detector_that_may_be_lost_were_never_sent(system):
    run = system.begin(order(4))
    system.receivers[0].run.tell(rows(0))
    system.receivers[0].run.change(received=1)
    system.receivers[1].run.tell(gaps(1, 3, code=Validity.PACKET_LOSS))
    system.control.doubt = "it does not answer"
    system.finish()

    assert comes_to(run, Phase.INCOMPLETE)
    assert run.verdict() == ("1 of 4 frames is valid; 3 never sent (control: it does not answer)")


def test_a_stop_is_no_failure_of_a_detector_that_does_not_answer(system):
    run = system.begin(order(4))
    system.control.doubt = "it does not answer"
    system.coordinator.stop()

    assert comes_to(run, Phase.DONE)
    assert run.verdict() == "0 of 4 frames are valid; 4 never sent"
    assert system.state is IDLE


def test_a_detector_that_does_not_stop_when_asked_has_not_failed(system):
    run = system.begin(order(4))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k))
    system.control.manners.errors["stop"] = CameraError("it takes its time")
    system.coordinator.stop()
    system.control.fail("it takes its time")

    assert comes_to(run, Phase.DONE)
    assert run.verdict() == "2 of 4 frames are valid; 2 never sent"
    assert system.state is IDLE
    del system.control.manners.errors["stop"]
    assert works(system)
