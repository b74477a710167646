import queue
import threading

import pytest

from lima2_core.camera.api import CameraEnv, Failure
from lima2_core.camera.dispatch import Share
from lima2_core.errors import BusyError, CameraError, ParamError, StateError
from lima2_core.ids import AcqId
from lima2_core.service.control import ControlService
from lima2_core.service.events import RunFinished, StateChanged
from lima2_core.service.link import FanOut
from lima2_core.service.receiver import ReceiverService, ReceiverSettings
from lima2_core.state.device import AcqState
from lima2_core.testing.doubles import LIMIT_S, FakePipeline, eventually, installed
from lima2_core.testing.fake_camera import FakeCamera
from lima2_core.testing.fakes import DirectLink

IDLE, PREPARED, RUNNING, STOPPED, FAULT, TERMINATE = AcqState
A, B = AcqId("run-a"), AcqId("run-b")
BROKEN = CameraError("the detector does not answer")


@pytest.fixture
def camera():
    return FakeCamera()


@pytest.fixture
def link():
    return DirectLink()


@pytest.fixture
def service(camera, link):
    service = ControlService("c0", camera.plugin, CameraEnv(), link, lambda: 2)
    yield service
    camera.broken.clear()
    if service.state is not TERMINATE:
        service.close()


def told(service):
    """The changes of state that were told."""
    states = []
    while True:
        try:
            event = service.events.get_nowait()
        except queue.Empty:
            return states
        if isinstance(event, StateChanged):
            states.append(event.state)


def bring_to(service, camera, state):
    if state in (PREPARED, RUNNING, STOPPED, FAULT):
        service.prepare(A)
    if state in (RUNNING, STOPPED):
        service.start()
    if state is STOPPED:
        service.stop()
    if state is FAULT:
        camera.broken["start"] = BROKEN
        with pytest.raises(CameraError):
            service.start()
        camera.broken.clear()
    assert service.state is state
    camera.calls.clear()


def test_an_acquisition_from_prepare_to_close(service, camera, link):
    service.prepare(A)
    assert service.state is PREPARED
    service.start()
    assert service.state is RUNNING
    service.stop()
    assert service.state is STOPPED
    service.close_acquisition()
    assert service.state is IDLE

    assert camera.calls == ["check", "prepare", "start", "stop", "close"]
    assert [(message.acq_id, message.kind) for message in link.messages] == [(A, "start")]
    assert told(service) == [PREPARED, RUNNING, STOPPED, IDLE]
    assert service.last_error is None


def test_close_stops_a_running_detector(service, camera):
    bring_to(service, camera, RUNNING)

    service.close_acquisition()

    assert service.state is IDLE
    assert camera.calls == ["stop", "close"]


@pytest.mark.parametrize("state", [IDLE, PREPARED, STOPPED, FAULT])
def test_stop_changes_nothing_where_nothing_runs(service, camera, state):
    bring_to(service, camera, state)

    service.stop()

    assert service.state is state


@pytest.mark.parametrize("state", [IDLE, PREPARED, RUNNING, STOPPED, FAULT])
def test_reset_leads_to_rest_from_any_state_and_forgets_the_error(service, camera, state):
    bring_to(service, camera, state)

    service.reset()

    assert service.state is IDLE
    assert service.last_error is None
    assert camera.calls[-1] == "close"
    service.prepare(B)


def test_fault_outlives_close_and_stop(service, camera):
    bring_to(service, camera, FAULT)

    service.close_acquisition()
    service.stop()

    assert service.state is FAULT
    with pytest.raises(StateError, match="Prepare is not possible in state FAULT"):
        service.check_preparable()


@pytest.mark.parametrize("state", [PREPARED, STOPPED])
def test_prepare_may_be_repeated_without_showing_idle(service, camera, state):
    bring_to(service, camera, state)
    told(service)

    service.prepare(B)

    assert service.state is PREPARED
    assert IDLE not in told(service)


def test_commands_that_do_not_fit_the_state_are_refused(service, camera):
    with pytest.raises(StateError, match="start is not possible in state IDLE"):
        service.start()
    with pytest.raises(StateError, match="Start is not possible in state IDLE"):
        service.check_startable()
    with pytest.raises(StateError, match="Trigger is not possible in state IDLE"):
        service.check_triggerable()
    bring_to(service, camera, RUNNING)
    with pytest.raises(StateError, match="Prepare is not possible in state RUNNING"):
        service.prepare(B)
    with pytest.raises(StateError, match="Prepare is not possible in state RUNNING"):
        service.check_preparable()

    assert service.state is RUNNING
    assert service.last_error is None
    assert camera.calls == []


# Parameters


def test_the_parameters_as_the_hardware_took_them_stay_beside_those_asked_for(service):
    service.request_acquisition('{"acq": {"expo_time": 1234}}')
    assert service.applied_text == ""

    service.prepare(A)

    assert '"expo_time":1234' in service.acquisition_text
    assert '"expo_time":1230' in service.applied_text


def test_refused_parameters_leave_those_before(service):
    service.request_acquisition('{"acq": {"nb_frames": 7}}')

    with pytest.raises(ParamError, match=r"acq\.nb_frames"):
        service.request_acquisition('{"acq": {"nb_frames": -1}}')

    assert '"nb_frames":7' in service.acquisition_text


@pytest.mark.parametrize("where", ["check", "prepare"])
@pytest.mark.parametrize("state", [IDLE, PREPARED, STOPPED])
def test_a_failed_prepare_changes_nothing_and_the_next_one_works(service, camera, where, state):
    bring_to(service, camera, state)
    applied = service.applied_text
    camera.broken[where] = BROKEN

    with pytest.raises(CameraError, match="does not answer"):
        service.prepare(B)

    assert service.state is state
    assert service.applied_text == applied
    camera.broken.clear()
    service.prepare(B)
    assert service.state is PREPARED


def test_what_the_detector_cannot_do_is_known_before_prepare(service, camera):
    camera.broken["check"] = ParamError("too short", path="acq.expo_time")

    with pytest.raises(ParamError, match=r"acq\.expo_time: too short"):
        service.check_preparable()

    assert camera.calls == ["check"]


def test_an_acquisition_needs_an_id(service):
    with pytest.raises(ParamError, match="needs an id"):
        service.prepare(AcqId(""))


# Triggers


def test_software_triggers_are_given_where_they_are_asked_for(service, camera, link):
    service.request_acquisition('{"acq": {"trigger_mode": "software"}}')
    bring_to(service, camera, RUNNING)

    service.check_triggerable()
    service.trigger()
    service.trigger()

    assert camera.calls == ["trigger", "trigger"]
    assert [message.kind for message in link.messages] == ["start", "trigger", "trigger"]
    assert service.nb_frames_acquired == 2
    assert service.state is RUNNING


def test_a_trigger_is_refused_where_triggers_come_from_elsewhere(service, camera):
    bring_to(service, camera, RUNNING)

    with pytest.raises(StateError, match=r"needs acq\.trigger_mode software; it is internal"):
        service.check_triggerable()


# What fails


def test_a_start_that_fails_is_a_fault_and_stops_the_detector(service, camera):
    bring_to(service, camera, PREPARED)
    told(service)
    camera.broken["start"] = BROKEN

    with pytest.raises(CameraError, match="does not answer"):
        service.start()

    assert service.state is FAULT
    assert service.last_error is BROKEN
    assert camera.calls == ["start", "stop"]
    assert told(service) == [FAULT]


def test_a_trigger_that_fails_is_a_fault(service, camera):
    bring_to(service, camera, RUNNING)
    camera.broken["trigger"] = BROKEN

    with pytest.raises(CameraError):
        service.trigger()

    assert service.state is FAULT
    assert service.last_error is BROKEN
    assert camera.calls == ["trigger", "stop"]


def test_a_detector_that_can_not_even_be_stopped_is_a_fault(service, camera):
    bring_to(service, camera, RUNNING)
    camera.broken.update(trigger=BROKEN, stop=CameraError("the link is down"))

    with pytest.raises(CameraError, match="does not answer"):
        service.trigger()

    assert service.state is FAULT
    assert service.last_error is BROKEN


def test_a_stop_that_fails_is_a_fault(service, camera):
    bring_to(service, camera, RUNNING)
    camera.broken["stop"] = BROKEN

    with pytest.raises(CameraError):
        service.stop()

    assert service.state is FAULT
    assert service.last_error is BROKEN


def test_a_detector_that_cannot_be_stopped_is_closed_all_the_same(service, camera):
    bring_to(service, camera, RUNNING)
    camera.broken["stop"] = BROKEN

    with pytest.raises(CameraError):
        service.reset()

    assert service.state is IDLE
    assert camera.calls == ["stop", "close"]


def test_a_new_prepare_forgets_the_error_before(service):
    service.report_lost("r1", BusyError("no answer"))
    assert service.last_error.message == "no answer"

    service.prepare(A)

    assert service.last_error is None


# What can be seen


def test_the_detector_tells_what_it_is_by_the_keys_of_the_wire(service):
    assert service.detector_info() == {
        "plugin": "Fake",
        "model": "Fake",
        "sn": "0",
        "pixel_size": {"x": 2e-6, "y": 1e-6},
        "dimensions": {"x": 3, "y": 2},
    }


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (IDLE, "idle"),
        (PREPARED, "prepared"),
        (RUNNING, "acquiring"),
        (STOPPED, "stopped"),
        (FAULT, "fault"),
    ],
)
def test_the_detector_tells_how_it_is(service, camera, state, word):
    bring_to(service, camera, state)

    assert service.detector_status() == {"state": word, "temperature": 20.0}


def test_the_detector_tells_what_it_can_do_in_nanoseconds(service):
    able = service.detector_capabilities()

    assert able["trigger_modes"] == ["internal", "software"]
    assert able["expo_time_range"] == [1_000, 10_000_000_000]
    assert able["latency_time_range"] == [0, 1_000_000_000]
    assert able["nb_frames_per_trigger_range"] == [1, 2**32 - 1]


# The end


@pytest.mark.parametrize("state", [IDLE, PREPARED, RUNNING, STOPPED, FAULT])
def test_closing_brings_the_detector_to_rest_and_ends(service, camera, state):
    bring_to(service, camera, state)

    service.close()

    assert service.state is TERMINATE
    assert camera.calls == ["stop", "close"]
    assert told_to_the_end(service)[-1] is None
    with pytest.raises(StateError):
        service.prepare(B)


def told_to_the_end(service):
    events = []
    while None not in events:
        events.append(service.events.get(timeout=LIMIT_S))
    return events


def test_closing_ends_also_where_the_detector_does_not_answer(service, camera):
    bring_to(service, camera, RUNNING)
    camera.broken["stop"] = BROKEN

    with pytest.raises(CameraError):
        service.close()

    assert service.state is TERMINATE
    assert told_to_the_end(service)[-1] is None
    assert "mailbox-c0" not in [thread.name for thread in threading.enumerate()]


def test_a_detector_that_takes_too_long_is_busy(service, camera, monkeypatch):
    monkeypatch.setattr("lima2_core.service.control.COMMAND_S", 0.05)
    gate = threading.Event()
    monkeypatch.setattr(camera, "note", lambda call: gate.wait(LIMIT_S))

    with pytest.raises(BusyError, match=r"c0 is busy and did not answer within 0\.05 s"):
        service.prepare(A)

    gate.set()
    assert eventually(lambda: service.state is PREPARED)
    monkeypatch.undo()


# With receivers


def test_a_control_and_two_receivers_take_an_acquisition_together(camera):
    pipeline = FakePipeline()
    settings = ReceiverSettings(workers=1, memory_bytes=2**20)
    with installed(pipelines={"LimaProcessingLegacy": pipeline.plugin}):
        receivers = [
            ReceiverService(f"r{n}", camera.plugin, CameraEnv(), lambda n=n: Share(n, 2), settings)
            for n in range(2)
        ]
        lost = []
        link = FanOut(
            {receiver.name: receiver.deliver for receiver in receivers},
            lambda name, error: lost.append(name),
        )
        control = ControlService("c0", camera.plugin, CameraEnv(), link, lambda: 2)
        text = '{"acq": {"nb_frames": 7}}'
        control.request_acquisition(text)
        for receiver in receivers:
            receiver.requested.ask_acquisition(text)

        for service in (*receivers, control):
            service.prepare(A)
        for service in (*receivers, control):
            service.start()
        for receiver in receivers:
            while receiver.events.get(timeout=LIMIT_S) != RunFinished(A):
                pass
        control.close_acquisition()
        link.close()
        for service in (*receivers, control):
            service.close()

    assert lost == []
    assert sorted(sink.idxs for sink in pipeline.sinks) == [[0, 2, 4, 6], [1, 3, 5]]
    assert [message.kind for message in camera.messages] == ["start", "start"]


# A detector that fails by itself


def test_a_detector_that_dies_is_noticed_stopped_and_named(service, camera):
    bring_to(service, camera, RUNNING)
    told(service)
    camera.failure = Failure("the detector died after 7 frames")

    assert eventually(lambda: service.state is FAULT)

    assert eventually(lambda: camera.calls == ["stop"])
    assert str(service.last_error) == "the detector died after 7 frames"
    assert eventually(lambda: told(service) == [FAULT])
    service.reset()
    service.prepare(B)
    camera.failure = None
    service.start()
    assert service.state is RUNNING
    assert service.last_error is None


def test_that_a_dead_detector_does_not_stop_is_not_the_cause(service, camera, caplog):
    bring_to(service, camera, RUNNING)
    camera.broken["stop"] = BROKEN
    camera.failure = Failure("the detector died")

    assert eventually(lambda: service.state is FAULT)

    assert eventually(lambda: "stop failed" in caplog.text)
    assert str(service.last_error) == "the detector died"


def test_a_doubt_about_the_detector_is_told_and_may_pass(service, camera):
    bring_to(service, camera, RUNNING)
    camera.failure = Failure("it does not answer", certain=False)
    assert eventually(lambda: service.doubt == "it does not answer")

    camera.failure = None

    assert eventually(lambda: not service.doubt)
    assert service.state is RUNNING
    assert service.last_error is None


def test_a_camera_that_cannot_say_how_it_is_leaves_a_doubt(service, camera):
    bring_to(service, camera, RUNNING)
    camera.broken["failure"] = ValueError("of what?")

    assert eventually(lambda: "ValueError: of what?" in service.doubt)

    assert service.state is RUNNING
    service.stop()
    assert service.doubt == ""
