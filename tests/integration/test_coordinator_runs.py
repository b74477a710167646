"""An acquisition of a scripted system, from its prepare to its last output."""

import gc
import threading
import weakref

import numpy as np
import pytest

from lima2_core.data.frame import Validity
from lima2_core.errors import (
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
from lima2_core.system import output_thread
from lima2_core.system.coordinator import Coordinator
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.testing.system_doubles import ScriptedOutput
from lima2_core.testing.system_script import SUMS, gaps, order, rows, sums
from lima2_core.worker import Worker
from tests.integration.coordinated import (
    ENDED,
    IDLE,
    PREPARED,
    RUNNING,
    Scripted,
    Timer,
    codes,
    comes_to,
    counts,
    records,
    works,
)

SYSTEM = Scripted


@pytest.fixture
def patient(monkeypatch):
    """Waits for what outputs have to say as long as a command may take."""
    monkeypatch.setattr(output_thread, "CHECK_S", 2.0)


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
    calls = ["prepare", "detector_info", "start", "close"]
    assert eventually(lambda: system.control.manners.calls == calls)
    assert run.ended_wall_s >= run.started_wall_s > 0
    assert system.coordinator.last_error is None


def test_events_tell_of_every_change_in_its_order(system):
    run = system.begin(order(2))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k))
    system.finish()
    assert comes_to(run, Phase.DONE)
    system.coordinator.close()

    states = [event.state for event in system.events if isinstance(event, StateChanged)]
    assert states == [PREPARED, RUNNING, IDLE, AcqState.TERMINATE]
    assert system.events.count(RunFinished(run.acq_id)) == 1


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
        told = records(cursor, 20)
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


# Stop, and runs without an end


def test_after_an_early_stop_the_rest_was_never_sent(system, monkeypatch):
    # A stop that waits for anything is given up, and told as an error.
    monkeypatch.setattr(coordinator_module, "STOP_S", LIMIT_S)
    run = system.begin(order(1000))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k, k + 2))
    system.expose(4)

    system.coordinator.stop()

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


def test_a_forgotten_run_leaves_memory_without_a_search_for_rings(make_system):
    """Its books are large, and the collector comes by once in hundreds of runs."""
    system = make_system(outputs=[ScriptedOutput()])
    assert works(system)
    run = weakref.ref(system.coordinator.current)
    system.given.clear()
    gc.disable()
    try:
        assert works(system)
        system.coordinator.erase(run().acq_id)

        assert eventually(lambda: run() is None)
    finally:
        gc.enable()


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
    patience_over = threading.Event()
    posts = []
    later = Coordinator._later

    def later_when_told(coordinator, delay_s, run, then):
        if delay_s != coordinator_module.OUTPUTS_S:
            later(coordinator, delay_s, run, then)
            return

        def tell():
            assert patience_over.wait(LIMIT_S)
            later(coordinator, 0.0, run, then)

        posts.append(Worker("patience", tell))

    monkeypatch.setattr(Coordinator, "_later", later_when_told)
    slow, quick = ScriptedOutput(wait_in="finish"), ScriptedOutput()
    system = make_system(outputs=[slow, quick])
    run = system.begin(order(2))
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(k))
    system.finish()
    assert comes_to(run, Phase.ENDING)
    assert system.state is IDLE  # and the next acquisition may come
    of_slow, of_quick = system.coordinator.outputs(run.acq_id)
    assert eventually(of_quick.done.is_set)
    assert run.phase is Phase.ENDING
    patience_over.set()

    assert comes_to(run, Phase.DONE)

    assert not of_slow.done.is_set()
    system.given = []
    for _ in range(5):
        assert works(system)
    slow.let_go()
    assert eventually(of_slow.done.is_set)
    assert of_slow.trouble == ""
    assert all(post.join(LIMIT_S) for post in posts)


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


def test_an_output_may_refuse_a_run_before_anything_is_changed(make_system, patient):
    refusing, other = ScriptedOutput(fail_in="check"), ScriptedOutput()
    refusing.error = ParamError("the file exists", path="processing.saving.file_exists_policy")
    system = make_system(outputs=[other, refusing])

    with pytest.raises(ParamError, match="the file exists") as caught:
        system.prepare(order(2))

    assert caught.value.path == "processing.saving.file_exists_policy"
    assert (system.state, system.coordinator.runs) == (IDLE, ())
    assert eventually(lambda: all(r.run.status.finished for r in system.receivers))
    assert "open" not in refusing.calls
    assert eventually(lambda: other.run is not None and other.run.finished())
    assert "finish" not in other.calls
    system.given = []
    assert works(system)


def test_an_output_that_takes_long_to_check_is_not_waited_for(make_system):
    slow = ScriptedOutput(fail_in="check", wait_in="check")
    slow.error = ParamError("the file exists", path="processing.saving")
    system = make_system(outputs=[slow])

    # A prepare that waits for it is given up, and told as an error.
    run = system.prepare(order(2))

    slow.let_go()
    (thread,) = system.coordinator.outputs(run.acq_id)
    assert eventually(lambda: "processing.saving: the file exists" in thread.trouble)


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
    if state in ("running", "draining"):
        assert eventually(lambda: "finish" in output.calls)
    else:
        assert "finish" not in output.calls
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
