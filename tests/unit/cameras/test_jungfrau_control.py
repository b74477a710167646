"""The control part of a JUNGFRAU on a back-end that is told what to do."""

import pytest

from camera_plugins.jungfrau import control as control_module
from camera_plugins.jungfrau.backend import Backend, first_number
from camera_plugins.jungfrau.control import JungfrauControl
from camera_plugins.jungfrau.params import JungfrauParams
from lima2_core.camera.api import CameraEnv, Failure
from lima2_core.errors import CameraError, ParamError, StateError
from lima2_core.ids import AcqId

ONE = AcqId("one")


class Told(Backend):
    """Notes what it is asked, and does nothing."""

    trigger_modes = ("internal", "software", "external")
    model, serial = "a model", "a number"

    def __init__(self):
        self.calls = []
        self.exposed = 7
        self.error = None
        self.found = None

    def readings(self):
        return {"temperature": 20.0}

    def check(self, params):
        self.calls.append("check")

    def prepare(self, setup):
        self.calls.append("prepare")
        self.setup = setup
        return setup.params

    def start(self):
        if self.error:
            raise self.error
        self.calls.append("start")

    def trigger(self):
        self.calls.append("trigger")

    def stop(self):
        self.calls.append("stop")
        if self.error:
            raise self.error
        return self.exposed

    def nb_exposed(self):
        return 5

    def failure(self):
        self.calls.append("failure")
        return self.found

    def close(self):
        self.calls.append("close")


class Link:
    def __init__(self):
        self.messages = []

    def broadcast(self, message):
        self.messages.append((message.kind, dict(message.values)))


@pytest.fixture
def backend(monkeypatch):
    made = Told()
    monkeypatch.setattr(control_module, "_backend", lambda installation: made)
    return made


@pytest.fixture
def link():
    return Link()


@pytest.fixture
def control(backend, link):
    return JungfrauControl(CameraEnv({"modules": "2"}), link)


def params(**groups):
    return JungfrauParams.from_tree(groups)


def test_a_detector_says_what_it_is(control):
    info = control.info()

    assert (info.model, info.sn, info.rows, info.cols) == ("a model", "a number", 1024, 1024)
    assert info.extra["modules"] == 2
    assert control.status() == {"state": "idle", "temperature": 20.0}


def test_an_acquisition_is_prepared_with_its_numbers_and_told_to_receivers(control, backend, link):
    control.prepare(ONE, params(acq={"nb_frames": 7}), 1)
    assert control.status()["state"] == "armed"
    control.start()
    assert control.nb_frames_acquired() == 5
    assert control.status()["state"] == "acquiring"
    control.stop()

    assert backend.setup.first_number == first_number(ONE)
    assert backend.setup.destinations == ((("127.0.0.1", 50001), ("127.0.0.1", 50002)),)
    (start, at), (stop, exposed) = link.messages
    assert (start, stop) == ("start", "stop")
    assert at["t0_wall_s"] > 1.7e9
    assert exposed == {"nb_exposed": 7}
    assert control.nb_frames_acquired() == 7


def test_a_detector_that_does_not_know_how_many_it_exposed_says_so(control, backend, link):
    backend.exposed = None
    control.prepare(ONE, params(), 1)
    control.start()
    control.stop()

    assert link.messages[-1] == ("stop", {"nb_exposed": -1})
    assert control.nb_frames_acquired() == 5


def test_receivers_hear_of_a_stop_that_failed(control, backend, link):
    control.prepare(ONE, params(), 1)
    control.start()
    backend.error = CameraError("no answer")

    with pytest.raises(CameraError):
        control.stop()

    assert link.messages[-1] == ("stop", {"nb_exposed": -1})


def test_receivers_are_not_told_what_a_detector_counted_that_failed(control, backend, link):
    control.prepare(ONE, params(), 1)
    assert control.failure() is None
    control.start()
    assert control.failure() is None
    backend.found = Failure("it died")

    assert control.failure() == backend.found
    control.stop()

    assert link.messages[-1] == ("stop", {"nb_exposed": -1})
    assert control.failure() is None
    assert control.nb_frames_acquired() == 5
    assert backend.calls.count("failure") == 2


def test_triggers_are_counted_and_those_beyond_the_end_ignored(control, backend, link):
    acq = {"nb_frames": 4, "nb_frames_per_trigger": 2, "trigger_mode": "software"}
    control.prepare(ONE, params(acq=acq), 1)
    with pytest.raises(StateError):
        control.trigger()
    control.start()
    for _ in range(3):
        control.trigger()

    assert backend.calls.count("trigger") == 2
    assert [values for kind, values in link.messages if kind == "trigger"] == [
        {"count": 1},
        {"count": 2},
    ]


def test_starts_and_triggers_out_of_place_are_refused(control):
    with pytest.raises(StateError):
        control.start()
    control.prepare(ONE, params(), 1)
    control.start()
    for command in (control.start, control.trigger):
        with pytest.raises(StateError):
            command()
    control.close()
    with pytest.raises(StateError):
        control.start()


@pytest.mark.parametrize(
    ("groups", "path"),
    [
        ({"img": {"flip": "up_down"}}, "img.flip"),
        ({"img": {"binning": {"x": 2}}}, "img.binning"),
        ({"img": {"roi": {"dimensions": {"x": 8, "y": 8}}}}, "img.roi"),
        ({"det": {"readout_speed": "full"}}, "det.readout_speed"),
        ({"det": {"high_voltage": 59}}, "det.high_voltage"),
        ({"det": {"additional_storage_cells": 1}, "acq": {"nb_frames": 3}}, "acq.nb_frames"),
        (
            {"acq": {"nb_frames": 3, "nb_frames_per_trigger": 2, "trigger_mode": "software"}},
            "acq.nb_frames_per_trigger",
        ),
        (
            {
                "acq": {"nb_frames": 6, "nb_frames_per_trigger": 3, "trigger_mode": "software"},
                "det": {"additional_storage_cells": 1},
            },
            "acq.nb_frames_per_trigger",
        ),
        ({"acq": {"trigger_mode": "gate"}}, "acq.trigger_mode"),
        ({"accu": {"nb_frames": 2}}, "accu.nb_frames"),
    ],
)
def test_what_no_jungfrau_can_do_is_refused(control, backend, groups, path):
    with pytest.raises(ParamError) as refused:
        control.prepare(ONE, params(**groups), 1)

    assert refused.value.path == path
    assert "prepare" not in backend.calls


def test_too_many_receivers_for_the_addresses_are_refused(backend, link):
    control = JungfrauControl(CameraEnv({"udp_addresses": "127.0.0.1:1"}), link)

    with pytest.raises(ParamError, match=r"properties\.udp_addresses"):
        control.prepare(ONE, params(), 2)


def test_the_end_of_the_control_lets_go_of_the_detector(control, backend):
    control.release()

    assert backend.calls == ["close"]
