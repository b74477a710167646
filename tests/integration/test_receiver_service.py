import json
import queue
import threading
import time
from dataclasses import replace

import pytest

from lima2_core.camera.api import CameraEnv, CameraMessage
from lima2_core.camera.dispatch import Share
from lima2_core.data.frame import Frame
from lima2_core.errors import (
    CameraError,
    NotAvailableError,
    ParamError,
    PipelineError,
    StateError,
    StorageError,
)
from lima2_core.ids import AcqId
from lima2_core.service import polls, receiver
from lima2_core.service.events import (
    AcquisitionEnded,
    RunFailed,
    RunFinished,
    RunsChanged,
    StateChanged,
)
from lima2_core.service.mailbox import Mailbox
from lima2_core.service.receiver import DWELL_S, SETTLE_S, ReceiverService, ReceiverSettings
from lima2_core.state.device import AcqState
from lima2_core.state.run import RunState
from lima2_core.testing.doubles import (
    LIMIT_S,
    CollectSink,
    FakePipeline,
    GatedSink,
    eventually,
    installed,
)
from lima2_core.testing.fake_camera import FakeCamera

IDLE, PREPARED, RUNNING, FAULT = (
    AcqState.IDLE,
    AcqState.PREPARED,
    AcqState.RUNNING,
    AcqState.FAULT,
)
ONLY = Share()
A, B, C = AcqId("run-a"), AcqId("run-b"), AcqId("run-c")


class Told:
    """The events of a service, in the order they came, with the time of each."""

    def __init__(self, service):
        self._service = service
        self.events = []
        self.times_s = []

    def until(self, event, times=1, timeout_s=LIMIT_S):
        """Take events until ``event`` came so often; all events so far."""
        until_s = time.monotonic() + timeout_s
        while self.events.count(event) < times:
            try:
                left_s = max(0.0, until_s - time.monotonic())
                self.events.append(self._service.events.get(timeout=left_s))
            except queue.Empty:
                pytest.fail(f"{event} did not come {times} times; {self.events} came")
            self.times_s.append(time.monotonic())
        return self.events

    def time_s(self, event):
        """When ``event`` came first."""
        return self.times_s[self.events.index(event)]

    def all(self):
        """Close the service; all events from its beginning to its end."""
        self._service.close()
        return self.until(None)

    def states(self):
        """The changes of state among them."""
        return [event.state for event in self.events if isinstance(event, StateChanged)]


@pytest.fixture
def camera():
    return FakeCamera()


@pytest.fixture
def pipeline():
    fake = FakePipeline()
    with installed(pipelines={"LimaProcessingLegacy": fake.plugin}):
        yield fake


@pytest.fixture
def make_service(camera, pipeline):
    services = []

    def make(share=ONLY, **settings):
        settings = {"workers": 2, "memory_bytes": 2**24, **settings}
        service = ReceiverService(
            "r0", camera.plugin, CameraEnv(), lambda: share, ReceiverSettings(**settings)
        )
        services.append(service)
        return service

    yield make
    camera.expose(10**9)
    for service in services:
        if service.state is not AcqState.TERMINATE:
            service.close(LIMIT_S)


@pytest.fixture
def service(make_service):
    return make_service()


@pytest.fixture
def told(service):
    return Told(service)


def ask(service, nb_frames=5, **det):
    service.requested.ask_acquisition(json.dumps({"acq": {"nb_frames": nb_frames}, "det": det}))


def lent(service):
    """Frames in use; a thread that has done its last lets go of them a moment later."""
    (stats,) = service.memory().values()
    return stats.in_use


def finished(service, acq_id):
    return service.run(acq_id).finished


# The whole way


def test_an_acquisition_from_prepare_to_finish(service, told, pipeline, camera):
    camera.hold()
    ask(service, 5)

    prepared = service.prepare(A)
    assert service.state is PREPARED
    assert prepared.run is service.run(A) is service.current
    assert prepared.retired == ()
    service.start()
    assert service.state is RUNNING
    camera.expose(5)
    told.until(StateChanged(IDLE))
    told.until(RunFinished(A))

    run = service.run(A)
    (sink,) = pipeline.sinks
    assert sink.idxs == [0, 1, 2, 3, 4]
    assert sink.calls[-1] == "close"
    assert (run.received, run.lost, run.state, run.error) == (5, 0, RunState.DONE, None)
    assert run.finished
    assert service.received == 5
    assert service.last_error is None
    assert run.progress() == {"nb_frames_source": 5}
    assert run.pipeline.taps["frame"].get(-1).idx == 4
    assert camera.sources[-1].closed


def test_the_events_of_an_acquisition_come_once_and_in_order(service, told):
    ask(service, 3)
    service.prepare(A)
    service.start()
    told.until(RunFinished(A))
    told.until(StateChanged(IDLE))

    events = told.all()

    assert told.states() == [PREPARED, RUNNING, IDLE, AcqState.TERMINATE]
    assert events.count(RunsChanged((A,))) == 1
    assert events.count(AcquisitionEnded(A, 3)) == 1
    assert events.count(RunFinished(A)) == 1
    assert events.index(AcquisitionEnded(A, 3)) < events.index(StateChanged(IDLE))
    assert not any(isinstance(event, RunFailed) for event in events)


@pytest.fixture
def delays_s(monkeypatch):
    """How long each end was held back at first, by the name of what was to be done then."""
    delays = {}
    post = Mailbox.post

    def note(mailbox, work, delay_s=0.0):
        delays.setdefault(work.func.__name__, delay_s)
        post(mailbox, work, delay_s)

    monkeypatch.setattr(Mailbox, "post", note)
    return delays


def test_a_short_acquisition_shows_a_state_other_than_idle_long_enough_for_a_poll(
    service, told, monkeypatch
):
    monkeypatch.setattr(receiver, "DWELL_S", 1.0)
    ask(service, 1)

    began_s = time.monotonic()
    service.prepare(A)
    service.start()
    told.until(StateChanged(IDLE))

    ended, idle = AcquisitionEnded(A, 1), StateChanged(IDLE)
    assert told.events.index(ended) < told.events.index(idle)
    assert told.time_s(idle) - began_s >= 1.0
    # The conductor polls every 50 ms, and its tests allow 500 ms (contract 01, 6.4).
    assert 0.15 <= DWELL_S <= 0.3


def test_the_state_of_a_short_acquisition_is_held_for_what_is_left_of_a_poll(
    service, told, delays_s
):
    ask(service, 1)
    service.prepare(A)
    service.start()
    told.until(StateChanged(IDLE))

    assert 0.0 <= delays_s["_ended"] < DWELL_S


def test_a_client_that_is_held_up_is_waited_for_until_it_has_seen_a_short_acquisition(
    service, told, monkeypatch
):
    answers, missed = [], service.polls.missed

    def note(prepared_s):
        answers.append(missed(prepared_s))
        return answers[-1]

    monkeypatch.setattr(service.polls, "missed", note)
    monkeypatch.setattr(polls, "RECENT_S", 60.0)
    monkeypatch.setattr(polls, "PATIENCE_S", 60.0)
    ask(service, 1)
    service.polls.note()
    service.prepare(A)
    service.start()
    assert eventually(lambda: answers.count(True) > 2, 20)
    assert service.state is RUNNING

    service.polls.note()

    told.until(StateChanged(IDLE))


def test_nobody_is_waited_for_who_has_given_up_reading(service, told, monkeypatch):
    monkeypatch.setattr(polls, "RECENT_S", 60.0)
    monkeypatch.setattr(polls, "PATIENCE_S", 0.3)
    ask(service, 1)
    service.polls.note()
    service.prepare(A)
    service.start()

    told.until(StateChanged(IDLE))


def test_a_long_acquisition_is_idle_at_once(service, told, camera, delays_s):
    camera.hold()
    ask(service, 1)
    service.prepare(A)
    service.start()
    time_over = threading.Event()
    time_over.wait(1.2 * DWELL_S)

    camera.expose(1)
    told.until(StateChanged(IDLE))

    assert delays_s["_ended"] == 0.0


def test_the_end_is_told_only_after_the_last_counter_could_be_read(service, told, pipeline):
    gated = GatedSink()
    pipeline.make_sink = lambda: gated
    ask(service, 3)
    service.prepare(A)
    service.start()
    assert gated.wait_until_holding()
    counted = service.run(A).pipeline.counters["nb_frames_source"]
    assert eventually(lambda: counted.value == 3)
    told.until(StateChanged(IDLE))
    assert not finished(service, A)

    opened_s = time.monotonic()
    gated.open_gate()
    told.until(RunFinished(A))

    assert told.time_s(RunFinished(A)) - opened_s >= SETTLE_S >= 0.1
    assert gated.calls[-1] == "close"
    assert finished(service, A)


def test_a_receiver_takes_its_share(make_service, pipeline):
    service = make_service(Share(1, 2))
    told = Told(service)
    ask(service, 5)
    service.prepare(A)
    service.start()
    told.until(RunFinished(A))

    assert pipeline.sinks[0].idxs == [1, 3]
    assert [row.local for row in pipeline.sinks[0].rows] == [0, 1]
    assert pipeline.contexts[-1].nb_expected == 2


def test_gaps_keep_their_rows_and_are_counted(service, told, pipeline):
    ask(service, 6, gaps=(1, 4))
    service.prepare(A)
    service.start()
    told.until(RunFinished(A))

    run = service.run(A)
    assert (run.received, run.lost, run.state) == (4, 2, RunState.DONE)
    assert [gap.idx for gap in run.gaps] == [1, 4]
    assert pipeline.sinks[0].idxs == list(range(6))
    assert pipeline.sinks[0].gaps == [1, 4]


def test_nothing_stays_leased_but_what_can_be_looked_at(service, told):
    ask(service, 20)
    service.prepare(A)
    service.start()
    told.until(RunFinished(A))

    assert service.run(A).pipeline.taps["frame"].stats().kept == 4
    assert eventually(lambda: lent(service) == 4)
    service.erase(A)
    assert eventually(lambda: lent(service) == 0)


def test_messages_of_the_camera_reach_the_run_they_are_meant_for(service, camera):
    ask(service, 1)
    service.prepare(A)
    mine = CameraMessage(A, "start")

    service.deliver(mine)
    service.deliver(CameraMessage(B, "start"))

    assert camera.messages == [mine]


# Parameters


def test_parameters_are_read_back_as_they_will_be_used(service):
    ask(service, 7)
    service.requested.ask_processing('{"tag": 3}')

    assert '"nb_frames":7' in service.requested.acquisition.to_json()
    assert '"tag":3' in service.requested.processing[1].to_json()


def test_refused_parameters_leave_those_before(service):
    ask(service, 7)
    service.requested.ask_processing('{"tag": 3}')

    with pytest.raises(ParamError, match=r"acq\.nb_frames"):
        ask(service, -1)
    with pytest.raises(ParamError, match="unknown parameter; known here: class_name, tag"):
        service.requested.ask_processing('{"tags": 3}')
    with pytest.raises(ParamError, match="no pipeline 'Other' is installed; there are Lima"):
        service.requested.ask_processing('{"class_name": "Other"}')

    assert '"nb_frames":7' in service.requested.acquisition.to_json()
    assert '"tag":3' in service.requested.processing[1].to_json()


def test_a_run_keeps_its_parameters_whatever_is_asked_later(service):
    ask(service, 7)
    service.prepare(A)

    ask(service, 9)

    assert service.run(A).params.requested.acq.nb_frames == 7


# Prepare that fails, and prepare again


@pytest.mark.parametrize("state", [IDLE, PREPARED])
@pytest.mark.parametrize(
    "error", [ParamError("the folder is full", path="saving"), StorageError("no such folder")]
)
def test_a_failed_prepare_changes_nothing_and_the_next_one_works(
    service, told, pipeline, state, error
):
    ask(service, 2)
    if state is PREPARED:
        service.prepare(A)
    runs = service.acq_ids
    pipeline.refuse = error

    with pytest.raises(type(error), match=error.message):
        service.prepare(B)

    assert service.state is state
    assert service.acq_ids == runs
    pipeline.refuse = None
    service.prepare(C)
    service.start()
    told.until(RunFinished(C))
    assert service.run(C).received == 2


def test_a_sink_that_cannot_open_refuses_prepare(service, told, pipeline, camera):
    sink = CollectSink(fail_in="open", error=StorageError("the file exists"))
    pipeline.make_sink = lambda: sink
    ask(service, 2)

    with pytest.raises(StorageError, match="the file exists"):
        service.prepare(A)

    assert service.state is IDLE
    assert service.acq_ids == ()
    assert not camera.sources[-1].opened
    pipeline.make_sink = CollectSink
    service.prepare(A)


@pytest.mark.parametrize("error", [CameraError("the link is down"), MemoryError("too many")])
def test_a_source_that_cannot_open_refuses_prepare_and_leaves_nothing_open(
    service, pipeline, camera, error
):
    camera.broken["open"] = error
    ask(service, 2)

    with pytest.raises(type(error), match=str(error)):
        service.prepare(A)

    assert service.state is IDLE
    assert pipeline.sinks[-1].calls == ["open", "abort"]
    assert camera.sources[-1].closed
    camera.broken.clear()
    service.prepare(A)


@pytest.mark.parametrize("acq_id", ["", "run-a"])
def test_an_id_that_is_empty_or_was_used_is_refused(service, acq_id):
    ask(service, 2)
    service.prepare(A)

    with pytest.raises(ParamError, match="was not used before"):
        service.prepare(AcqId(acq_id))

    assert service.state is PREPARED


def test_what_prepare_would_refuse_can_be_known_before(service, pipeline, camera):
    ask(service, 2)
    service.check_preparable()
    assert not camera.sources[-1].opened
    assert service.acq_ids == ()

    pipeline.refuse = ParamError("no such file", path="mask")

    with pytest.raises(ParamError, match="no such file"):
        service.check_preparable()


def test_a_second_prepare_gives_up_the_first_without_showing_idle(service, told, pipeline, camera):
    ask(service, 2)
    service.prepare(A)

    service.prepare(B)

    assert service.state is PREPARED
    assert service.run(A).state is RunState.DISCARDED
    assert pipeline.sinks[0].calls == ["open", "abort"]
    assert camera.sources[0].closed
    service.start()
    told.until(RunFinished(B))
    assert pipeline.sinks[1].idxs == [0, 1]
    events = told.all()
    assert events.count(RunFinished(A)) == 0
    assert events.count(StateChanged(PREPARED)) == 1


# What does not fit the state


def test_commands_that_do_not_fit_the_state_are_refused(service, camera):
    camera.hold()
    ask(service, 1)
    with pytest.raises(StateError, match="Start is not possible in state IDLE"):
        service.start()
    with pytest.raises(StateError, match="Start is not possible"):
        service.check_startable()
    service.prepare(A)
    service.check_startable()
    service.start()

    with pytest.raises(StateError, match="Prepare is not possible in state RUNNING"):
        service.prepare(B)
    with pytest.raises(StateError, match="Prepare is not possible in state RUNNING"):
        service.check_preparable()
    with pytest.raises(StateError, match="Start is not possible in state RUNNING"):
        service.start()

    assert service.state is RUNNING


@pytest.mark.parametrize("state", [IDLE, PREPARED])
def test_stop_is_harmless_where_nothing_runs(service, told, state):
    ask(service, 1)
    if state is PREPARED:
        service.prepare(A)

    service.stop()

    assert service.state is state


def test_a_run_that_is_not_there_is_not_available(service):
    with pytest.raises(NotAvailableError, match="no run 'run-a'"):
        service.run(A)
    with pytest.raises(NotAvailableError, match="no run 'run-a'"):
        service.erase(A)


# Early ends


def test_stop_ends_with_what_was_exposed(service, told, pipeline, camera):
    camera.hold()
    ask(service, 100)
    service.prepare(A)
    service.start()
    camera.expose(4)
    assert eventually(lambda: service.received == 4)

    service.stop()
    told.until(StateChanged(IDLE))
    told.until(RunFinished(A))

    assert pipeline.sinks[0].idxs == [0, 1, 2, 3]
    assert service.run(A).state is RunState.DONE
    assert service.last_error is None


def test_stop_ends_an_acquisition_without_end(service, told, camera):
    ask(service, 0)
    service.prepare(A)
    assert service.run(A).params.nb_expected is None
    service.start()
    assert eventually(lambda: service.received > 10)

    service.stop()
    told.until(StateChanged(IDLE))
    told.until(RunFinished(A))

    assert service.run(A).progress()["nb_frames_source"] == service.received


def test_reset_while_running_is_idle_at_once_and_the_run_still_finishes(
    service, told, pipeline, camera
):
    camera.hold()
    ask(service, 100)
    service.prepare(A)
    service.start()
    camera.expose(3)
    assert eventually(lambda: service.received == 3)

    service.reset()

    assert service.state is IDLE
    told.until(RunFinished(A))
    assert pipeline.sinks[0].idxs == [0, 1, 2]
    told.all()
    assert told.states().count(IDLE) == 1


def test_after_reset_the_next_acquisition_is_not_touched_by_the_end_of_the_one_before(
    service, told, camera
):
    camera.hold()
    ask(service, 100)
    service.prepare(A)
    service.start()
    service.reset()

    ask(service, 2)
    service.prepare(B)
    told.until(RunFinished(A))
    assert service.state is PREPARED
    service.start()
    camera.expose(10**9)
    told.until(RunFinished(B))

    assert service.run(B).received == 2


def test_reset_of_a_prepared_receiver_gives_up_its_run(service, pipeline):
    ask(service, 2)
    service.prepare(A)

    service.reset()

    assert service.state is IDLE
    assert service.run(A).state is RunState.DISCARDED
    assert pipeline.sinks[0].calls == ["open", "abort"]


# What fails


def fault(service, told):
    """Wait for FAULT; the events up to it."""
    return told.until(StateChanged(FAULT))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PipelineError("no device to compute on"), "no device to compute on"),
        (OSError("no such device"), "the pipeline could not be activated: OSError: no such device"),
    ],
)
def test_activation_that_fails_is_a_fault_and_not_an_error_of_start(
    service, told, pipeline, error, message
):
    def activate():
        raise error

    pipeline.activate = activate
    ask(service, 2)
    service.prepare(A)

    service.start()

    assert service.state is FAULT
    assert service.last_error.message == message
    assert service.run(A).state is RunState.FAILED
    assert pipeline.sinks[0].calls == ["open", "abort"]
    service.stop()
    assert service.state is FAULT
    service.reset()
    assert service.state is IDLE
    assert service.last_error is None
    events = told.all()
    # The conductor counts the ends, and takes none here (contract 01, 5.3).
    assert RunFinished(A) not in events
    assert told.states() == [PREPARED, RUNNING, FAULT, IDLE, AcqState.TERMINATE]


def test_a_camera_that_fails_is_a_fault_and_the_run_finishes(service, told, pipeline):
    ask(service, 10, fail_at=3)
    service.prepare(A)
    service.start()

    events = fault(service, told)
    assert isinstance(service.last_error, CameraError)
    assert events.index(AcquisitionEnded(A, 3)) < events.index(StateChanged(FAULT))
    told.until(RunFinished(A))

    assert pipeline.sinks[0].idxs == [0, 1, 2]
    assert pipeline.sinks[0].calls[-1] == "close"
    assert service.run(A).state is RunState.FAILED
    assert service.run(A).error is service.last_error
    assert service.state is FAULT


def test_frames_that_vanish_without_a_word_are_a_fault(service, told):
    ask(service, 10, vanish=(3, 4))
    service.prepare(A)
    service.start()

    fault(service, told)

    assert isinstance(service.last_error, PipelineError)
    assert "2 are unaccounted for" in service.last_error.message
    assert service.last_error.details == {"expected": 10, "received": 8, "lost": 0}
    told.until(RunFinished(A))


def test_a_source_that_breaks_otherwise_is_a_fault_as_well(
    service, told, camera, expected_errors, monkeypatch
):
    expected_errors.allow("acquisition run-a broke off", logger="lima2_core.service.run")
    ask(service, 10)
    service.prepare(A)
    monkeypatch.setattr(camera.sources[-1], "next_frames", lambda timeout_s: 1 // 0)
    service.start()

    fault(service, told)

    assert "the acquisition broke off: ZeroDivisionError" in service.last_error.message
    told.until(RunFinished(A))


@pytest.mark.parametrize("fails", ["task", "sink"])
def test_processing_that_fails_is_told_before_the_fault_and_the_run_finishes(
    service, told, pipeline, camera, fails
):
    class Breaks:
        name = "breaks"

        def process(self, frame: Frame):
            if frame.idx == 3:
                raise ValueError("a pixel is wrong")
            return frame

    if fails == "task":
        pipeline.tasks = (Breaks(),)
    else:
        pipeline.make_sink = lambda: CollectSink(fail_at=3, error=StorageError("disk full"))
    camera.hold()
    ask(service, 100)
    service.prepare(A)
    service.start()
    camera.expose(4)

    events = fault(service, told)

    assert events.index(RunFailed(A)) < events.index(StateChanged(FAULT))
    assert isinstance(service.last_error, PipelineError if fails == "task" else StorageError)
    assert service.run(A).error is service.last_error
    told.until(RunFinished(A))
    service.stop()
    assert service.state is FAULT
    with pytest.raises(StateError, match="Prepare is not possible in state FAULT"):
        service.prepare(B)
    events = told.all()
    assert events.count(RunFailed(A)) == 1
    assert events.count(RunFinished(A)) == 1
    assert told.states() == [PREPARED, RUNNING, FAULT, AcqState.TERMINATE]


def test_processing_that_fails_while_draining_leaves_the_acquisition_alone(service, told, pipeline):
    class BreakingGatedSink(GatedSink):
        def close(self):
            raise StorageError("the last chunk finds no place")

    sink = BreakingGatedSink()
    pipeline.make_sink = lambda: sink
    ask(service, 3)
    service.prepare(A)
    service.start()
    told.until(StateChanged(IDLE))

    sink.open_gate()
    told.until(RunFailed(A))
    told.until(RunFinished(A))

    assert service.state is IDLE
    assert service.last_error is None
    assert service.run(A).state is RunState.FAILED
    assert service.run(A).error.message == "the last chunk finds no place"


def test_a_fault_is_left_by_reset_and_the_next_acquisition_works(service, told):
    ask(service, 10, fail_at=0)
    service.prepare(A)
    service.start()
    fault(service, told)

    service.reset()
    assert service.state is IDLE
    assert service.last_error is None
    ask(service, 2)
    service.prepare(B)
    service.start()
    told.until(RunFinished(B))

    assert service.run(B).error is None


def test_prepare_forgets_the_error_of_the_run_before(service, told, pipeline):
    # Failing while draining leaves IDLE, so the next Prepare needs no reset.
    pipeline.make_sink = lambda: CollectSink(fail_in="close", error=StorageError("no space"))
    ask(service, 1)
    service.prepare(A)
    service.start()
    told.until(RunFinished(A))
    if service.state is FAULT:
        service.reset()
    assert eventually(lambda: service.state is IDLE)

    service.prepare(B)

    assert service.last_error is None


# Several runs at a time


def test_the_next_acquisition_runs_while_the_one_before_drains(service, told, pipeline):
    gated = GatedSink()
    pipeline.make_sink = lambda: gated
    ask(service, 5)
    service.prepare(A)
    service.start()
    told.until(StateChanged(IDLE))
    assert service.run(A).state is RunState.DRAINING

    pipeline.make_sink = CollectSink
    service.prepare(B)
    service.start()
    told.until(StateChanged(IDLE), times=2)
    told.until(RunFinished(B))

    assert not finished(service, A)
    assert service.acq_ids == (A, B)
    gated.open_gate()
    told.until(RunFinished(A))
    first, second = pipeline.sinks
    assert first.idxs == second.idxs == list(range(5))
    assert service.run(A).state is service.run(B).state is RunState.DONE


def test_an_erased_run_that_drains_goes_on_unseen(service, told, pipeline):
    gated = GatedSink()
    pipeline.make_sink = lambda: gated
    ask(service, 5)
    service.prepare(A)
    service.start()
    told.until(StateChanged(IDLE))

    service.erase(A)

    told.until(RunsChanged(()))
    with pytest.raises(NotAvailableError):
        service.run(A)
    gated.open_gate()
    told.until(RunFinished(A))
    assert gated.idxs == list(range(5))
    assert eventually(lambda: lent(service) == 0)


def test_a_run_that_takes_frames_cannot_be_erased(service, camera):
    camera.hold()
    ask(service, 5)
    service.prepare(A)
    service.start()

    with pytest.raises(StateError, match="is taking frames; stop it first"):
        service.erase(A)

    assert service.acq_ids == (A,)


def test_erasing_a_prepared_run_gives_it_up(service, pipeline):
    ask(service, 5)
    service.prepare(A)

    service.erase(A)

    assert service.state is IDLE
    assert service.acq_ids == ()
    assert pipeline.sinks[0].calls == ["open", "abort"]


def run_to_the_end(service, told, acq_id):
    service.prepare(acq_id)
    service.start()
    told.until(RunFinished(acq_id))
    assert eventually(lambda: service.state is IDLE)


def test_finished_runs_stay_readable_until_newer_ones_take_their_place(make_service):
    service = make_service(runs_kept=2)
    told = Told(service)
    ask(service, 1)
    ids = [AcqId(f"run-{n}") for n in range(4)]
    for acq_id in ids[:3]:
        run_to_the_end(service, told, acq_id)
    assert service.acq_ids == tuple(ids[:3])

    prepared = service.prepare(ids[3])

    assert prepared.retired == (ids[0],)
    assert service.acq_ids == tuple(ids[1:])
    assert service.run(ids[1]).pipeline.taps["frame"].get(0).idx == 0
    told.until(RunsChanged(tuple(ids[1:])))


def test_runs_that_are_not_finished_are_never_retired(make_service, pipeline):
    service = make_service(runs_kept=0)
    told = Told(service)
    gated = GatedSink()
    pipeline.make_sink = lambda: gated
    ask(service, 1)
    service.prepare(A)
    service.start()
    told.until(StateChanged(IDLE))

    pipeline.make_sink = CollectSink
    assert service.prepare(B).retired == ()

    assert service.acq_ids == (A, B)
    gated.open_gate()
    told.until(RunFinished(A))
    assert service.prepare(C).retired == (A, B)


def test_runs_that_never_started_are_retired_as_well(make_service, pipeline):
    service = make_service(runs_kept=1)

    def activate():
        raise PipelineError("no device to compute on")

    pipeline.activate = activate
    ask(service, 1)
    for acq_id in (A, B, C):
        service.prepare(acq_id)
        service.start()
        service.reset()

    assert service.acq_ids == (B, C)


# The end


@pytest.mark.parametrize("state", [IDLE, PREPARED, RUNNING, FAULT])
def test_closing_ends_all_threads_whatever_the_state(service, told, camera, state):
    before = threading.active_count()
    camera.hold()
    ask(service, 100, fail_at=2 if state is FAULT else -1)
    if state is not IDLE:
        service.prepare(A)
    if state in (RUNNING, FAULT):
        service.start()
        camera.expose(3 if state is FAULT else 2)
        assert eventually(lambda: service.received == 2)
    assert eventually(lambda: service.state is state)

    began_s = time.monotonic()
    service.close(LIMIT_S)

    assert time.monotonic() - began_s < LIMIT_S
    assert service.state is AcqState.TERMINATE
    assert camera.closed
    assert all(source.closed for source in camera.sources if source.opened)
    assert eventually(lambda: threading.active_count() < before)
    assert told.until(None)[-1] is None


def test_closing_waits_for_files_only_as_long_as_it_may(service, told, pipeline):
    gated = GatedSink()
    pipeline.make_sink = lambda: gated
    ask(service, 3)
    service.prepare(A)
    service.start()
    assert gated.wait_until_holding()
    run = service.run(A)

    began_s = time.monotonic()
    service.close(timeout_s=0.1)

    assert 0.1 <= time.monotonic() - began_s < LIMIT_S
    assert not run.finished
    gated.open_gate()


def test_closing_lets_files_be_ended_well(service, told, pipeline):
    ask(service, 0)
    service.prepare(A)
    service.start()
    assert eventually(lambda: service.received > 3)

    service.close(LIMIT_S)

    assert pipeline.sinks[0].calls[-1] == "close"
    assert len(pipeline.sinks[0].idxs) == service.current.received


def test_after_the_end_commands_are_refused(service):
    service.close()

    with pytest.raises(StateError):
        service.prepare(A)


# Processing that is deferred


@pytest.fixture
def collected(service, told, camera):
    """A run of five frames that are all taken, and wait to be processed."""
    camera.buffers = 20
    ask(service, 5)
    run = service.prepare(A, deferred=True).run
    service.start()
    told.until(StateChanged(IDLE))
    return run


def test_frames_are_only_collected_until_somebody_asks_for_their_processing(
    service, told, pipeline, collected
):
    assert collected.waits_to_process
    assert collected.state is RunState.DRAINING
    assert collected.progress()["nb_frames_source"] == 0

    service.process(A)
    service.process(A)
    told.until(RunFinished(A))

    assert not collected.waits_to_process
    assert pipeline.sinks[0].idxs == list(range(5))
    with pytest.raises(NotAvailableError):
        service.process(B)


def test_collecting_ends_where_a_camera_needs_its_buffers_back(service, told, camera, monkeypatch):
    ask(service, 5)
    service.prepare(A, deferred=True)
    lent = camera.sources[-1]._item
    monkeypatch.setattr(
        camera.sources[-1], "_item", lambda *args: replace(lent(*args), keepable=False)
    )

    service.start()

    told.until(RunFinished(A))
    assert service.run(A).received == 5


@pytest.mark.parametrize("way", ["erase", "close"])
def test_collected_frames_are_processed_when_their_run_is_given_up(
    service, told, pipeline, collected, way
):
    service.erase(A) if way == "erase" else service.close(LIMIT_S)

    assert eventually(lambda: pipeline.sinks[0].calls[-1] == "close")
    assert pipeline.sinks[0].idxs == list(range(5))


def test_reset_begins_the_processing_of_what_was_collected(service, told, camera, pipeline):
    camera.hold()
    ask(service, 100)
    service.prepare(A, deferred=True)
    service.start()
    camera.expose(3)
    assert eventually(lambda: service.received == 3)

    service.reset()

    told.until(RunFinished(A))
    assert pipeline.sinks[0].idxs == [0, 1, 2]


def test_without_leisure_the_ends_are_told_at_once(service, told, delays_s):
    ask(service, 1)
    service.prepare(A, at_leisure=False)
    service.start()

    told.until(StateChanged(IDLE))
    told.until(RunFinished(A))

    assert delays_s["_ended"] == delays_s["_processed"] == 0.0


def test_runs_of_a_coordinator_stay_until_it_erases_them(make_service):
    service = make_service(runs_kept=1)
    told = Told(service)
    ask(service, 1)
    ids = [AcqId(f"run-{n}") for n in range(4)]
    for acq_id in ids:
        assert service.prepare(acq_id, at_leisure=False).retired == ()
        service.start()
        told.until(RunFinished(acq_id))
        assert eventually(lambda: service.state is IDLE)

    assert service.acq_ids == tuple(ids)
    service.erase(ids[0])
    assert service.acq_ids == tuple(ids[1:])
