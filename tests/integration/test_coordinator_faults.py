"""Whatever its parts do, a system comes to rest, knows why, and the next acquisition works."""

import itertools

import numpy as np
import pytest

from lima2_core.data.frame import Validity
from lima2_core.data.rows import LEDGER
from lima2_core.errors import (
    CameraError,
    Lima2Error,
    NotAvailableError,
    ParamError,
    PipelineError,
    StateError,
)
from lima2_core.ids import AcqId
from lima2_core.service.events import RunFinished, StateChanged
from lima2_core.state.device import AcqState
from lima2_core.state.system import Phase
from lima2_core.system import coordinator as coordinator_module
from lima2_core.system.ports import UnreachableError
from lima2_core.testing.doubles import eventually
from lima2_core.testing.system_doubles import ScriptedOutput
from lima2_core.testing.system_script import SUMS, describe, gaps, order, rows, sums
from tests.integration.coordinated import ENDED, Scripted, Timer, codes, comes_to, counts, events_of

IDLE, PREPARED, RUNNING, FAULT = (
    AcqState.IDLE,
    AcqState.PREPARED,
    AcqState.RUNNING,
    AcqState.FAULT,
)
ANSWER_S = 3.0
"""Every command has answered by then, whatever the parts do."""


@pytest.fixture
def make_system():
    systems = []

    def make(*args, **kwargs):
        systems.append(Scripted(*args, **kwargs))
        return systems[-1]

    yield make
    for system in systems:
        system.close()


@pytest.fixture
def system(make_system):
    return make_system()


def works(system, nb_frames=4):
    """Whether a whole acquisition succeeds."""
    run = system.begin(order(nb_frames))
    n = len(system.receivers)
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(*range(k, nb_frames, n)))
    system.expose(nb_frames)
    system.finish()
    return comes_to(run, Phase.DONE) and run.verdict() == f"all {nb_frames} frames are valid"


# An acquisition


def test_an_acquisition_goes_through_all_phases(system):
    run = system.prepare(order(4))
    assert (run.phase, system.state) == (Phase.PREPARED, PREPARED)
    system.coordinator.start()
    assert (run.phase, system.state) == (Phase.RUNNING, RUNNING)
    system.expose(4)
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k, k + 2))
        receiver.run.change(state="draining")

    assert comes_to(run, Phase.DRAINING)
    assert eventually(lambda: system.state is IDLE)
    system.finish()
    assert comes_to(run, Phase.DONE)

    assert run.verdict() == "all 4 frames are valid"
    assert system.control.manners.calls == ["prepare", "detector_info", "start", "close"]
    assert run.ended_wall_s >= run.started_wall_s > 0
    assert system.coordinator.last_error is None


def test_events_tell_of_every_change_in_its_order(system):
    run = system.begin(order(2))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k))
    system.finish()
    assert comes_to(run, Phase.DONE)
    system.coordinator.close()

    told = events_of(system.coordinator)

    states = [event.state for event in told if isinstance(event, StateChanged)]
    assert states == [PREPARED, RUNNING, IDLE, AcqState.TERMINATE]
    assert told.count(RunFinished(run.acq_id)) == 1


def test_orders_reach_the_receivers_complete(system):
    acq_id = AcqId("0b3e")
    asked = order(4, deferred=True, saving={"filename_prefix": "a"})

    run = system.coordinator.prepare(asked, acq_id)

    assert run.acq_id == acq_id
    for k, receiver in enumerate(system.receivers):
        assert receiver.run.order.acq_id == acq_id
        assert receiver.run.order.acquisition == {"acq": {"nb_frames": 4}}
        assert receiver.run.order.processing["saving"]["filename_rank"] == k
        assert receiver.run.order.deferred


def test_out_of_order_with_a_loss_every_frame_is_in_its_place(make_system):
    system = make_system(streams={SUMS: 2}, saved=["frame"])
    run = system.begin(order(10))
    cursors = [run.view.streams[SUMS].cursor() for _ in range(2)]
    first, second = (receiver.run for receiver in system.receivers)
    first.tell(rows(0, 4, 2, 8, 6), **{SUMS: sums(0, 4, 2, 8, 6, per_frame=2)})
    second.tell(rows(1), **{SUMS: sums(1, per_frame=2)})
    second.tell(gaps(3))
    second.tell(rows(5, 7, 9, first_row=1), **{SUMS: sums(5, 7, 9, per_frame=2)})

    # The run has not ended, and nothing waits for the lost frame.
    assert eventually(lambda: run.ledger.front == 10)
    assert run.phase is Phase.RUNNING
    for cursor in cursors:
        told = cursor.read()
        assert told["frame_idx"].tolist() == [idx for idx in range(10) for _ in range(2)]
        assert np.flatnonzero(np.isnan(told["sum"])).tolist() == [6, 7]
    expected = ["VALID"] * 3 + ["DROPPED"] + ["VALID"] * 6
    assert codes(run.ledger, 10) == codes(run.view.saved["frame"].ledger, 10) == expected
    entries = run.view.saved["frame"].ledger.entries(0, 10)
    assert entries.row[:, 0].tolist() == [0, 0, 2, -1, 1, 1, 4, 2, 3, 3]


def test_what_is_told_twice_counts_once(make_system):
    system = make_system(streams={SUMS: 1})
    run = system.begin(order(4))
    cursor = run.view.streams[SUMS].cursor()
    for _ in range(3):
        system.receivers[0].run.tell(rows(0, 2, 0), **{SUMS: sums(0, 2, 0)})
        system.receivers[1].run.tell(rows(1, 3, 1), **{SUMS: sums(1, 3, 1)})
    system.finish()

    assert comes_to(run, Phase.DONE)
    assert counts(run.ledger) == {"VALID": 4}
    assert cursor.read()["frame_idx"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([True] * 4, "VALID"),
        ([True, True, False, True], "PARTIAL"),
        ([False] * 4, "PACKET_LOSS"),
    ],
)
def test_a_frame_in_parts_is_what_its_parts_are(make_system, told, expected):
    system = make_system(strips=[(k, k + 1) for k in range(4)], saved=["frame"])
    run = system.begin(order(1))
    for there, receiver in zip(told, system.receivers, strict=True):
        receiver.run.tell(rows(0) if there else gaps(0, code=Validity.PACKET_LOSS))
    system.expose(1)
    system.finish()

    assert comes_to(run, *ENDED)
    assert codes(run.ledger, 1) == codes(run.view.saved["frame"].ledger, 1) == [expected]
    assert run.view.topology == "partial"
    assert [place.row for place in run.view.saved["frame"].placements] == [0, 1, 2, 3]


# Receivers that are lost

POLICIES = ("abort", "continue", "mark")
WHERE = ("prepared", "running", "draining")


@pytest.mark.parametrize("keeps_rows", [True, False], ids=["known", "dynamic"])
@pytest.mark.parametrize(("where", "policy"), list(itertools.product(WHERE, POLICIES)))
def test_a_receiver_that_dies_is_named_and_the_others_go_on(make_system, where, policy, keeps_rows):
    rows_left = {("frame", 1): 1}
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
        assert ("stop" in alive.manners.calls) is aborted
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
    told = cursor.read()
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
    assert timer.took_s < 3.0
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


# Stop, and runs without an end


def test_after_an_early_stop_the_rest_was_never_sent(system):
    run = system.begin(order(1000))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k, k + 2))
    system.expose(4)

    with Timer() as timer:
        system.coordinator.stop()

    assert timer.took_s < 1.0
    assert comes_to(run, Phase.DONE)
    assert run.verdict() == "4 of 1000 frames are valid; 996 never sent"
    assert system.state is IDLE


def test_a_run_without_end_ends_at_the_stop(system):
    run = system.begin(order(0))
    assert run.expected is None
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k, k + 2, k + 4))
    assert eventually(lambda: run.ledger.front == 6)
    system.expose(6)

    system.coordinator.stop()

    assert comes_to(run, Phase.DONE)
    assert run.verdict() == "all 6 frames are valid"


@pytest.mark.parametrize("state", ["idle", "prepared", "ended"])
def test_a_stop_is_harmless(system, state):
    if state == "prepared":
        system.prepare(order(4))
    elif state == "ended":
        assert works(system)

    system.coordinator.stop()

    assert system.state is (PREPARED if state == "prepared" else IDLE)
    assert works(system) or state == "prepared"


def test_triggers_reach_the_detector(system):
    system.begin(order(2))

    system.coordinator.trigger()
    system.coordinator.trigger()

    assert system.control.triggers == 2
    system.control.manners.errors["trigger"] = StateError("the trigger mode is internal")
    with pytest.raises(StateError, match="internal"):
        system.coordinator.trigger()


# Prepare that fails


def test_a_refusal_names_receiver_and_parameter_and_the_others_are_given_back(system):
    willing, unwilling = system.receivers
    unwilling.manners.errors["prepare"] = ParamError(
        "the folder does not exist", path="saving.base_path"
    )

    with pytest.raises(ParamError, match=r"r1: saving\.base_path: the folder") as refused:
        system.prepare(order(4))

    assert refused.value.path == "saving.base_path"
    assert system.state is IDLE
    assert system.coordinator.last_error is refused.value
    assert eventually(lambda: willing.run.closed)
    assert eventually(lambda: willing.run.status.finished)
    assert eventually(lambda: system.control.state is IDLE)
    unwilling.manners.errors.clear()
    assert works(system)


def test_a_detector_that_refuses_is_named(system):
    system.control.manners.errors["prepare"] = CameraError("the high voltage is off")

    with pytest.raises(CameraError, match="control: the high voltage is off"):
        system.prepare(order(4))

    assert eventually(lambda: all(r.run.status.finished for r in system.receivers))
    system.control.manners.errors.clear()
    assert works(system)


def test_all_refusals_are_told(system):
    for receiver in system.receivers:
        receiver.manners.errors["prepare"] = ParamError("no", path="saving.base_path")

    with pytest.raises(ParamError, match=r"r0: saving\.base_path: no.*r1: saving\.base_path: no"):
        system.prepare(order(4))


@pytest.mark.parametrize(("part", "call"), [("r1", "prepare"), ("control", "status")])
def test_who_does_not_answer_a_prepare_is_named_in_time(system, part, call):
    guilty = system.control if part == "control" else system.receivers[1]
    guilty.manners.hangs_s[call] = 20.0

    with Timer() as timer, pytest.raises(UnreachableError, match=f"{part} did not answer"):
        system.prepare(order(4))

    assert timer.took_s < ANSWER_S
    assert system.state is IDLE
    guilty.manners.hangs_s.clear()
    guilty.manners.let_go()
    assert eventually(lambda: works(system))


def test_an_error_that_is_none_of_ours_is_told_as_one(system):
    system.receivers[0].manners.errors["prepare"] = KeyError("unexpected")

    with pytest.raises(Lima2Error, match="r0: 'unexpected'"):
        system.prepare(order(4))

    system.receivers[0].manners.errors.clear()
    assert works(system)


def test_receivers_that_do_not_fit_together_are_given_back(system):
    good = system.receivers[1].description
    system.receivers[1].description = describe(streams={SUMS: 1})

    with pytest.raises(ParamError, match="another pipeline"):
        system.prepare(order(4))

    assert system.state is IDLE
    assert eventually(lambda: all(r.run.status.finished and r.run.closed for r in system.receivers))
    system.receivers[1].description = good
    assert works(system)


def test_a_refused_prepare_leaves_nothing_prepared(system):
    first = system.prepare(order(4))
    system.receivers[1].manners.errors["prepare"] = ParamError("no", path="fifo")

    with pytest.raises(ParamError):
        system.prepare(order(4))

    assert (first.phase, system.state) == (Phase.DISCARDED, IDLE)
    with pytest.raises(StateError):
        system.coordinator.start()
    assert system.state is IDLE
    system.receivers[1].manners.errors.clear()
    assert works(system)


def test_the_last_prepare_counts(system):
    first = system.prepare(order(4))
    second = system.prepare(order(4))

    assert (first.phase, second.phase) == (Phase.DISCARDED, Phase.PREPARED)
    assert system.coordinator.current is second
    assert eventually(lambda: first.acq_id in system.receivers[0].erased)
    assert works(system)


def test_an_id_is_used_once(system):
    acq_id = AcqId("0b3e")
    run = system.coordinator.prepare(order(4), acq_id)

    with pytest.raises(ParamError, match="not used before") as refused:
        system.coordinator.prepare(order(4), acq_id)

    assert refused.value.path == "uuid"
    assert run.phase is Phase.PREPARED  # and it can be started


def test_a_run_that_another_client_replaced_cannot_be_started(system):
    run = system.prepare(order(4))
    system.receivers[1].run.change(state="discarded", finished=True)

    assert comes_to(run, Phase.DISCARDED)
    assert system.state is FAULT
    assert "another client" in str(system.coordinator.last_error)
    with pytest.raises(StateError):
        system.coordinator.start()
    assert works(system)


@pytest.mark.parametrize("part", ["r1", "control"])
def test_an_acquisition_of_another_client_is_not_disturbed(system, part):
    busy = system.control if part == "control" else system.receivers[1]
    busy.state = RUNNING

    with pytest.raises(StateError, match=f"{part} is busy with an acquisition of another"):
        system.prepare(order(4))

    assert "reset" not in busy.manners.calls
    busy.state = IDLE
    assert works(system)


# Start that fails


@pytest.mark.parametrize("part", ["r1", "control"])
@pytest.mark.parametrize("how", ["refuses", "hangs", "dead"])
def test_a_start_that_fails_leaves_a_fault_with_its_cause(system, part, how):
    guilty = system.control if part == "control" else system.receivers[1]
    run = system.prepare(order(4))
    if how == "refuses":
        guilty.manners.errors["start"] = CameraError("the shutter is stuck")
    elif how == "hangs":
        guilty.manners.hangs_s["start"] = 20.0
    else:
        guilty.manners.dead = True

    with Timer() as timer, pytest.raises(Lima2Error, match=part):
        system.coordinator.start()

    assert timer.took_s < ANSWER_S
    assert system.state is FAULT
    assert part in str(system.coordinator.last_error)
    if how != "refuses":
        guilty.manners.let_go()
    assert comes_to(run, Phase.INCOMPLETE)
    assert run.ledger.summary().adds_up
    assert part in run.verdict()
    guilty.manners.hangs_s.clear()
    guilty.manners.errors.clear()
    guilty.manners.dead = False
    assert works(system)


def test_without_a_prepare_there_is_nothing_to_start(system):
    with pytest.raises(StateError, match="PREPARED"):
        system.coordinator.start()


# Stop and reset that hang


@pytest.mark.parametrize(
    ("parts", "command"),
    [(["r1"], "stop"), (["r0", "r1", "control"], "stop"), (["r0", "r1", "control"], "reset")],
)
def test_nobody_waits_for_those_who_do_not_stop(system, parts, command):
    guilty = [p for p in (system.control, *system.receivers) if p.name in parts]
    run = system.begin(order(4))
    for part in guilty:
        part.manners.hangs_s[command] = 20.0

    with Timer() as timer:
        getattr(system.coordinator, command)()

    assert timer.took_s < ANSWER_S
    for part in guilty:
        part.manners.hangs_s.clear()
        part.manners.dead = True  # as a process that was stopped, and is killed
        part.manners.let_go()
    assert comes_to(run, *ENDED)
    assert system.state in (IDLE, FAULT)
    for part in guilty:
        part.manners.dead = False
    assert works(system)


@pytest.mark.parametrize("state", ["idle", "prepared", "running", "fault"])
def test_a_reset_leads_to_rest_from_everywhere(system, state):
    run = None
    if state == "prepared":
        run = system.prepare(order(4))
    elif state != "idle":
        run = system.begin(order(4))
    if state == "fault":
        system.control.fail("too hot")
        assert eventually(lambda: system.state is FAULT)

    system.coordinator.reset()

    assert system.state is IDLE
    assert system.coordinator.last_error is None
    assert run is None or comes_to(run, *ENDED, Phase.DISCARDED)
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
    system.control.manners.dead = True

    assert comes_to(run, Phase.INCOMPLETE)
    assert "control is gone" in run.verdict()
    system.control.manners.dead = False
    assert works(system)


def test_a_detector_that_does_not_tell_its_count_does_not_delay_the_end(system):
    run = system.begin(order(4))
    system.receivers[0].run.tell(rows(0, 2))
    system.receivers[1].run.tell(rows(1, 3))
    assert eventually(lambda: run.ledger.front == 4)
    system.control.manners.hangs_s["status"] = 20.0
    system.finish()

    with Timer() as timer:
        assert comes_to(run, Phase.DONE)

    assert timer.took_s < 2.5


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


# Runs that follow each other


def test_an_older_run_that_ends_does_not_disturb_the_next(system):
    slow = system.begin(order(4))
    system.coordinator.reset()
    for receiver in system.receivers:
        receiver.run.change(state="running", finished=False)  # they take their time
    first = [receiver.run for receiver in system.receivers]
    second = system.prepare(order(4))

    for run in first:
        run.finish()

    assert comes_to(slow, *ENDED)
    assert (second.phase, system.state, system.control.state) == (
        Phase.PREPARED,
        PREPARED,
        PREPARED,
    )
    system.coordinator.start()
    assert (second.phase, system.state) == (Phase.RUNNING, RUNNING)


def test_five_runs_overlap(system):
    runs, ports = [], []
    for n in range(5):
        run = system.begin(order(4))
        for k, receiver in enumerate(system.receivers):
            receiver.run.tell(rows(k, first_row=n))
            receiver.run.change(state="draining")
            receiver.state = IDLE
        runs.append(run)
        ports.append([receiver.run for receiver in system.receivers])
        system.expose(4)
        assert comes_to(run, Phase.DRAINING)
        assert eventually(lambda: system.state is IDLE)
    assert [run.phase for run in runs] == [Phase.DRAINING] * 5
    assert system.coordinator.runs == tuple(runs)

    for each in reversed(ports):
        for k, port in enumerate(each):
            port.tell(rows(k + 2))
            port.finish()

    for n, run in enumerate(runs):
        assert comes_to(run, Phase.DONE)
        assert run.ledger.entries(0, 2).row.tolist() == [[n], [n]]


def test_only_the_last_runs_are_kept(system):
    runs = []
    for _ in range(6):
        assert works(system)
        runs.append(system.coordinator.current)

    assert system.coordinator.runs == tuple(runs[-4:])
    with pytest.raises(NotAvailableError, match="no run"):
        system.coordinator.run(runs[0].acq_id)
    assert eventually(lambda: runs[1].acq_id in system.receivers[1].erased)


def test_a_run_can_be_erased_once_it_has_ended(system):
    run = system.begin(order(4))
    with pytest.raises(NotAvailableError, match="has not ended"):
        system.coordinator.erase(run.acq_id)
    system.finish()
    assert comes_to(run, Phase.DONE)

    system.coordinator.erase(run.acq_id)

    assert system.coordinator.runs == ()
    assert system.coordinator.outputs(run.acq_id) == ()
    assert eventually(lambda: run.acq_id in system.receivers[0].erased)


def test_a_deferred_run_is_processed_when_it_is_asked_for(system):
    run = system.begin(order(4, deferred=True))

    system.coordinator.process(run.acq_id)

    assert eventually(lambda: all(r.asked_to_process == [run.acq_id] for r in system.receivers))
    with pytest.raises(NotAvailableError):
        system.coordinator.process(AcqId("unknown"))


# Outputs


def test_outputs_see_the_whole_run(make_system):
    output = ScriptedOutput()
    system = make_system(outputs=[output], saved=["frame"], streams={SUMS: 1})
    run = system.begin(order(4))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k, k + 2), **{SUMS: sums(k, k + 2)})
    assert eventually(lambda: output.run is not None and output.run.ledger.front == 4)
    assert not output.run.finished()
    system.finish()

    assert comes_to(run, Phase.DONE)
    assert output.calls[0] == "open"
    assert output.calls[-1] == "finish"
    assert len(output.threads) == 1
    assert output.run is run.view
    assert run.view.finished()
    assert run.view.receivers == ("r0", "r1")
    assert run.view.detector == {"model": "Scripted"}
    assert [one.results() for one in system.coordinator.outputs(run.acq_id)] == [
        ("/data/scripted",)
    ]


@pytest.mark.parametrize("where", ["open", "update", "finish", "survivors"])
def test_an_output_that_fails_does_not_keep_a_run_from_ending_well(make_system, where):
    output = ScriptedOutput(fail_in=where)
    system = make_system(outputs=[output], saved=["frame"])
    run = system.begin(order(2, receiver_lost="continue"))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k))
        receiver.run.change(flushed={"frame": 1})
    assert eventually(lambda: run.ledger.front == 2)
    assert eventually(lambda: "update" in output.calls or where == "open")
    system.expose(2)
    system.receivers[1].manners.dead = where == "survivors"
    system.finish()

    assert comes_to(run, Phase.DONE)
    (thread,) = system.coordinator.outputs(run.acq_id)
    assert "the disk is gone" in thread.trouble


def test_a_slow_output_delays_the_end_and_then_goes_on_alone(make_system, monkeypatch):
    monkeypatch.setattr(coordinator_module, "OUTPUTS_S", 0.3)
    slow, quick = ScriptedOutput(wait_in="finish"), ScriptedOutput()
    system = make_system(outputs=[slow, quick])
    run = system.begin(order(2))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k))
    system.finish()
    assert comes_to(run, Phase.ENDING)
    assert system.state is IDLE  # and the next acquisition may come

    assert comes_to(run, Phase.DONE)

    done = [thread.done.is_set() for thread in system.coordinator.outputs(run.acq_id)]
    assert done == [False, True]
    system.given = []
    for _ in range(5):
        assert works(system)
    slow.let_go()
    assert eventually(lambda: slow.calls[-1] == "finish")


def test_a_run_that_is_not_started_leaves_no_output_behind(make_system):
    output = ScriptedOutput()
    system = make_system(outputs=[output])
    run = system.prepare(order(2))
    (thread,) = system.coordinator.outputs(run.acq_id)

    system.coordinator.reset()

    assert eventually(thread.done.is_set)
    assert "finish" not in output.calls


def test_outputs_that_cannot_be_made_leave_nothing_prepared(system):
    class Refusing:
        def __iter__(self):
            raise PipelineError("there is no such server")

    system.coordinator._outputs = lambda: Refusing()
    with pytest.raises(PipelineError, match="no such server"):
        system.prepare(order(2))

    assert system.state is IDLE
    assert eventually(lambda: all(r.run.status.finished for r in system.receivers))
    system.coordinator._outputs = tuple
    assert works(system)


# The end of everything


@pytest.mark.parametrize("state", ["idle", "prepared", "running", "draining"])
def test_a_system_can_be_closed_at_any_time(make_system, state):
    output = ScriptedOutput()
    system = make_system(outputs=[output])
    if state == "prepared":
        system.prepare(order(4))
    elif state != "idle":
        run = system.begin(order(4))
        if state == "draining":
            for receiver in system.receivers:
                receiver.run.change(state="draining")
            assert comes_to(run, Phase.DRAINING)

    with Timer() as timer:
        system.coordinator.close()

    assert timer.took_s < 2.0
    assert system.state is AcqState.TERMINATE
    assert ("finish" in output.calls) is (state in ("running", "draining"))
    if state == "running":
        assert "stop" in system.control.manners.calls
    with pytest.raises(StateError):
        system.prepare(order(4))


def test_closing_does_not_wait_for_those_who_hang(system):
    run = system.begin(order(4))
    for part in (system.control, *system.receivers):
        part.manners.hangs_s.update({"stop": 20.0, "news": 20.0})
    assert run.phase is Phase.RUNNING

    with Timer() as timer:
        system.coordinator.close()

    assert timer.took_s < 5.0
