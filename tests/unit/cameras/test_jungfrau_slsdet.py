"""A JUNGFRAU driven with slsdet: what it is told, what is refused, and what is never done."""

import sys
import threading

import pytest

from camera_plugins.jungfrau import slsdet_backend
from camera_plugins.jungfrau._sdk import SlsError, Step
from camera_plugins.jungfrau.backend import Setup
from camera_plugins.jungfrau.installation import Installation
from camera_plugins.jungfrau.params import JungfrauParams
from camera_plugins.jungfrau.slsdet_backend import ANSWER_S, UNHEARD_S, SlsdetBackend
from lima2_core.errors import CameraError, ParamError
from lima2_core.testing.fakes import ManualClock

MACS = "aa:00:00:00:00:{:02x} bb:00:00:00:00:01"
FIRST = 1 + (5 << 24)


def properties_of(modules=1, interfaces=1, **others):
    ways = [f"10.0.1.{port} " + MACS.format(port + 1) for port in range(modules * interfaces)]
    return {
        "backend": "slsdet",
        "modules": str(modules),
        "interfaces": str(interfaces),
        "hostnames": ",".join(f"jf{module}" for module in range(modules)),
        "module_network": ", ".join(ways),
        **others,
    }


class FakeDetector:
    """Modules that keep what they are told, and a note of everything."""

    def __init__(self, modules=1):
        self.modules = modules
        self.log = []
        self.alive = False
        self.pending = None
        self.refuse = {}
        self.found = {"client": "9.2.1", "servers": ["9.1.0"] * modules, "error": ""}
        self.values = {
            "status": ["IDLE"] * modules,
            "is_virtual": [False] * modules,
            "chip": [1.1] * modules,
            "hardware": ["2.0"] * modules,
            "serial": [0x1A + module for module in range(modules)],
            "too_hot": [0] * modules,
            "chips_on": [True] * modules,
            "high_voltage": [0] * modules,
            "settings": ["GAIN0"] * modules,
            "gain_mode": ["DYNAMIC"] * modules,
            "readout_speed": ["HALF_SPEED"] * modules,
            "rows": [512] * modules,
            "flip_rows": [False] * modules,
            "pedestal_mode": [False] * modules,
            "first_destination": [0] * modules,
            "note": [""],
            "interfaces": [1] * modules,
            "destinations": [1] * modules,
            "exposed": [0] * modules,
            "temperature_fpga": [31 + module for module in range(modules)],
            "temperature_adc": [40 - module for module in range(modules)],
        }

    def run(self, steps, about, *, limit_s, patience_s=0.0):
        assert limit_s <= ANSWER_S
        if self.pending:
            raise CameraError(self.pending)
        self.alive = True
        return [self.carry_out(step) for step in steps]

    def carry_out(self, step):
        if step.verb != "get":
            self.log.append(step)
        key = step.name or step.verb
        if key in self.refuse:
            raise SlsError(self.refuse[key])
        match step.verb:
            case "connect":
                return self.found
            case "get":
                return list(self.values.get(step.name, [None] * self.modules))
            case "set":
                there = self.values.setdefault(step.name, [None] * self.modules)
                for module in step.modules or range(self.modules):
                    there[module] = step.value
            case "note":
                self.values["note"] = [step.value]
            case "text":
                module, entry = (int(word) for word in step.value.split(":")[:2])
                self.values["destinations"][module] = entry + 1
            case "do" if step.name == "clear_destinations":
                self.values["destinations"] = [1] * self.modules
            case "do" if step.name == "stop":
                self.values["status"] = ["STOPPED"] * self.modules
        return None

    def close(self):
        self.alive = False

    @property
    def words(self):
        """What was done, in order, without what was only read."""
        return [f"{step.verb} {step.name}".strip() for step in self.log]

    def all_of(self, name):
        return [step.value for step in self.log if step.name == name]


def params_of(acq=None, **det):
    return JungfrauParams.from_tree({"acq": {"nb_frames": 10, **(acq or {})}, "det": det})


def setup_of(params=None, modules=1, interfaces=1, receivers=1):
    entries = tuple(
        tuple((f"10.0.1.{100 + receiver}", 50000 + port) for port in range(modules * interfaces))
        for receiver in range(receivers)
    )
    return Setup(params or params_of(), FIRST, entries)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def rig(clock):
    def make(modules=1, interfaces=1, **others):
        detector = FakeDetector(modules)
        installation = Installation.of(properties_of(modules, interfaces, **others))
        return SlsdetBackend(installation, detector, clock.now_s), detector

    return make


def test_nothing_is_touched_before_it_is_needed(rig):
    backend, detector = rig()

    readings = backend.readings()
    backend.stop()

    assert detector.log == []
    assert (backend.model, backend.serial) == ("JUNGFRAU 0.5M", "unknown")
    assert readings == {"detector_state": "not connected"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hostnames", "jf0"),
        ("hostnames", "jf0, j f1"),
        ("module_network", "10.0.1.1 aa:00:00:00:00:01 bb:00:00:00:00:01"),
        ("module_network", "10.0.1.1 aa:00:00:00:00:01, 10.0.1.2 aa:00:00:00:00:02"),
        ("module_network", "1 aa:00:00:00:00:01 bb:00:00:00:00:01, 1 x y"),
        ("module_network", "10.0.1.1 00:00:00:00:00:00 x, 10.0.1.1 00:00:00:00:00:00 x"),
        ("detector_id", "first"),
    ],
)
def test_a_wrong_property_is_named(name, text):
    installation = Installation.of(properties_of(2, **{name: text}))

    with pytest.raises(ParamError) as refused:
        SlsdetBackend(installation, FakeDetector(2))

    assert refused.value.path == f"properties.{name}"


def test_a_missing_library_is_told_with_the_command_that_mends_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "slsdet", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(CameraError, match=r'pip install "lima2-suite\[jungfrau\]"'):
        SlsdetBackend(Installation.of(properties_of()))


def test_modules_are_stacked_in_columns(rig):
    backend, detector = rig(4, modules_per_column="2", hostnames="a,b:2000,c,d", detector_id="3")

    backend.prepare(setup_of(modules=4))

    assert detector.log[0].value == {
        "detector_id": 3,
        "hosts": ["a", "b", "c", "d"],
        "ports": [1952, 2000, 1952, 1952],
        "size": [2048, 1024],
        "places": [[0, 0], [1, 0], [0, 1], [1, 1]],
    }


@pytest.mark.parametrize(
    ("client", "servers", "hint"),
    [
        ("10.0.1", ["9.1.0", "9.1.0"], 'pip install "slsdet==9.*"'),
        ("9.2.1", ["10.0.0", "10.0.0"], 'pip install "slsdet==10.*"'),
        ("9.2.1", ["9.2.0", "10.0.0"], "10.0.0, 9.2.0"),
    ],
)
def test_versions_that_do_not_go_together_are_refused_and_forgotten(rig, client, servers, hint):
    backend, detector = rig(2)
    detector.found = {"client": client, "servers": servers, "error": "incompatible"}

    with pytest.raises(CameraError) as refused:
        backend.prepare(setup_of(modules=2))

    assert hint in refused.value.message
    assert client in refused.value.message
    assert servers[0] in refused.value.message
    assert detector.words == ["connect", "forget"]


def test_it_connects_again_after_a_failure(rig):
    backend, detector = rig()
    found = detector.found
    detector.found = {"client": "9.2.1", "servers": [], "error": "cannot connect to jf0"}

    with pytest.raises(CameraError, match="jf0 cannot be connected: cannot connect to jf0"):
        backend.prepare(setup_of())
    detector.found = found
    backend.prepare(setup_of())
    detector.refuse = {"frames": "ClientSocket: Cannot connect"}
    with pytest.raises(CameraError, match="Cannot connect"):
        backend.prepare(setup_of())
    detector.refuse = {}
    backend.prepare(setup_of())

    assert detector.words.count("connect") == 3


def test_a_refusal_of_the_detector_does_not_break_the_connection(rig):
    backend, detector = rig()
    detector.refuse = {"period_s": "Detector returned: no such period"}

    with pytest.raises(CameraError, match=r"is being prepared and refuses: .*no such period"):
        backend.prepare(setup_of())
    detector.refuse = {}
    backend.prepare(setup_of())

    assert detector.words.count("connect") == 1


@pytest.mark.parametrize("state", ["RUNNING", "WAITING", "TRANSMITTING", "ERROR"])
def test_a_detector_that_does_not_rest_is_not_prepared_and_not_started(rig, state):
    backend, detector = rig(2)
    backend.prepare(setup_of(modules=2))
    done = len(detector.log)

    detector.values["status"] = ["STOPPED", state]
    with pytest.raises(
        CameraError, match=rf"is {state.lower()}, .*stop it first: .*stopDetector\(\)"
    ):
        backend.start()
    with pytest.raises(
        CameraError, match=rf"is {state.lower()}, .*stop it first: .*stopDetector\(\)"
    ):
        backend.prepare(setup_of(modules=2))

    assert len(detector.log) == done


def test_one_that_was_too_hot_is_not_prepared(rig):
    backend, detector = rig(3)
    detector.values["too_hot"] = [0, 1, 0]

    with pytest.raises(
        CameraError, match=r"module 1 was too hot .*Jungfrau\(0\)\.resetTemperatureEvent\(\)"
    ):
        backend.prepare(setup_of(modules=3))

    assert detector.words == ["connect"]


def test_chips_are_powered_only_if_asked(rig):
    backend, detector = rig(2)
    detector.values["chips_on"] = [True, False]

    with pytest.raises(CameraError, match=r"chips of module 1 are off; set det\.power_chips"):
        backend.prepare(setup_of(modules=2))
    assert "set chips_on" not in detector.words
    backend.prepare(setup_of(params_of(power_chips=True), modules=2))
    backend.prepare(setup_of(params_of(power_chips=True), modules=2))

    assert detector.all_of("chips_on") == [True]


def test_the_order_is_network_power_settings_numbers(rig):
    backend, detector = rig()
    detector.values["chips_on"] = [False]
    det = {"power_chips": True, "high_voltage": 120, "gain_mode": "fixg1", "high_gain_g0": True}

    backend.prepare(setup_of(params_of(**det)))

    assert detector.words == [
        "connect",
        "do clear_destinations",
        "set interfaces",
        "set destination_port",
        "set destination_mac",
        "set source_ip",
        "set source_mac",
        "set destination_ip",
        "do validate_network",
        "note",
        "set chips_on",
        "set high_voltage",
        "set settings",
        "set gain_mode",
        "set storage_cell_start",
        "set timing",
        "set frames",
        "set triggers",
        "set exposure_s",
        "set period_s",
        "set delay_s",
        "set next_number",
        "do validate_network",
    ]
    assert detector.all_of("settings") == ["HIGHGAIN0"]
    assert detector.all_of("gain_mode") == ["FIX_G1"]
    assert detector.all_of("high_voltage") == [120]
    assert detector.all_of("next_number") == [FIRST]


def test_what_is_as_it_should_be_is_left_alone(rig):
    backend, detector = rig()
    backend.prepare(setup_of())
    done = len(detector.log)

    backend.prepare(setup_of())

    assert detector.words[done:] == [
        "set storage_cell_start",
        "set timing",
        "set frames",
        "set triggers",
        "set exposure_s",
        "set period_s",
        "set delay_s",
        "set next_number",
        "do validate_network",
    ]


def test_what_others_left_on_is_switched_off(rig):
    backend, detector = rig()
    detector.values.update(flip_rows=[True], pedestal_mode=[True], first_destination=[2])
    detector.values["gain_mode"] = ["FIX_G0"]

    backend.prepare(setup_of())

    now = detector.values
    assert (now["flip_rows"], now["pedestal_mode"], now["first_destination"]) == (
        [False],
        [False],
        [0],
    )
    assert now["gain_mode"] == ["DYNAMIC"]


@pytest.mark.parametrize(
    ("hardware", "det", "path"),
    [
        ("2.0", {"additional_storage_cells": 1}, "det.additional_storage_cells"),
        ("2.0", {"storage_cell_start": 4}, "det.storage_cell_start"),
        ("1.0", {"readout_rows": 256}, "det.readout_rows"),
        ("1.0", {"readout_speed": "full"}, "det.readout_speed"),
    ],
)
def test_what_these_modules_cannot_do_is_refused_once_they_are_known(rig, hardware, det, path):
    backend, detector = rig(interfaces=2)
    detector.values["hardware"] = [hardware]
    params = params_of(**det)

    backend.check(params)
    with pytest.raises(ParamError) as at_prepare:
        backend.prepare(setup_of(params, interfaces=2))
    with pytest.raises(ParamError) as at_check:
        backend.check(params)

    assert at_prepare.value.path == at_check.value.path == path
    assert detector.words == ["connect"]


@pytest.mark.parametrize(
    ("acq", "chip", "cells", "timing", "frames", "triggers"),
    [
        ({"nb_frames": 12}, 1.1, 0, "AUTO_TIMING", 12, 1),
        ({"nb_frames": 0}, 1.1, 0, "AUTO_TIMING", 2**31 - 1, 1),
        ({"nb_frames": 12}, 1.0, 3, "AUTO_TIMING", 3, 1),
        ({"nb_frames": 12, "trigger_mode": "software"}, 1.1, 0, "TRIGGER_EXPOSURE", 1, 12),
        (
            {"nb_frames": 12, "trigger_mode": "external", "nb_frames_per_trigger": 4},
            1.1,
            0,
            "TRIGGER_EXPOSURE",
            4,
            3,
        ),
        (
            {"nb_frames": 12, "trigger_mode": "external", "nb_frames_per_trigger": 4},
            1.0,
            1,
            "TRIGGER_EXPOSURE",
            2,
            3,
        ),
        (
            {"nb_frames": 0, "trigger_mode": "external", "nb_frames_per_trigger": 4},
            1.1,
            0,
            "TRIGGER_EXPOSURE",
            4,
            (2**31 - 1) // 4,
        ),
    ],
)
def test_frames_become_frames_and_triggers(rig, acq, chip, cells, timing, frames, triggers):
    backend, detector = rig()
    detector.values["chip"] = [chip]

    backend.prepare(setup_of(params_of(acq, additional_storage_cells=cells)))

    now = detector.values
    assert (now["timing"], now["frames"], now["triggers"]) == ([timing], [frames], [triggers])
    assert now.get("storage_cells", [0]) == [cells]
    assert now["storage_cell_start"] == [15 if chip == 1.0 else 3]


def test_times_are_given_back_as_the_hardware_took_them(rig, monkeypatch):
    backend, detector = rig()
    asked = params_of({"expo_time": 100, "latency_time": 900})
    carry_out = detector.carry_out

    def round_up(step):
        result = carry_out(step)
        if step.name == "exposure_s":
            detector.values["exposure_s"] = [100.4e-6]
        if step.name == "period_s":
            detector.values["period_s"] = [1025e-6]
        return result

    monkeypatch.setattr(detector, "carry_out", round_up)

    applied = backend.prepare(setup_of(asked))

    assert detector.all_of("period_s")[0] == pytest.approx(1e-3)
    assert (applied.acq.expo_time, applied.acq.latency_time) == (100, 925)
    assert applied.det.storage_cell_start == 3


def test_modules_that_do_not_agree_are_refused(rig, monkeypatch):
    backend, detector = rig(2)
    carry_out = detector.carry_out
    monkeypatch.setattr(
        detector,
        "carry_out",
        lambda step: [1e-3, 2e-3] if step == Step("get", "period_s") else carry_out(step),
    )

    with pytest.raises(CameraError, match="do not agree on period_s"):
        backend.prepare(setup_of(modules=2))


def test_receivers_in_turns_are_entries_of_every_module_and_the_network_completes_last(rig):
    backend, detector = rig(2, 2)

    backend.prepare(setup_of(modules=2, interfaces=2, receivers=3))

    texts = [step.value for step in detector.log if step.verb == "text"]
    mac = "bb:00:00:00:00:01"
    assert texts == [
        f"{module}:{entry}:udp_dstlist ip=10.0.1.{100 + entry} mac={mac} port={50000 + 2 * module} "
        f"ip2=10.0.1.{100 + entry} mac2={mac} port2={50001 + 2 * module}"
        for entry in (1, 2)
        for module in (0, 1)
    ]
    network = detector.log[1 : detector.words.index("note")]
    assert network[-2] == Step("set", "destination_ip", "10.0.1.100", (0, 1))
    assert network[0].name == "clear_destinations"
    assert Step("set", "source_ip2", "10.0.1.3", (1,)) in network


def test_the_network_is_set_again_when_it_changed(rig):
    backend, detector = rig()
    backend.prepare(setup_of(receivers=2))

    backend.prepare(setup_of(receivers=2))
    assert detector.words.count("do clear_destinations") == 1
    detector.values["source_ip"] = ["10.0.1.77"]
    backend.prepare(setup_of(receivers=2))
    assert detector.words.count("do clear_destinations") == 2
    backend.prepare(setup_of(receivers=1))
    assert detector.words.count("do clear_destinations") == 3
    assert detector.values["destinations"] == [1]


def test_each_card_of_the_receivers_has_its_mac(rig):
    way = "10.0.1.1 aa:00:00:00:00:01 10.0.1.100=bb:00:00:00:00:05/BB:00:00:00:00:06"
    backend, detector = rig(module_network=way)

    backend.prepare(setup_of(receivers=2))

    assert detector.all_of("destination_mac") == ["bb:00:00:00:00:05"]
    assert "mac=bb:00:00:00:00:06" in next(s.value for s in detector.log if s.verb == "text")


def test_a_receiver_without_mac_and_too_many_receivers_are_refused(rig):
    backend, detector = rig(module_network="10.0.1.1 aa:00:00:00:00:01 10.9.9.9=bb:00:00:00:00:05")
    with pytest.raises(ParamError, match=r"no destination_mac for receiver 10\.0\.1\.100"):
        backend.prepare(setup_of())

    backend, detector = rig()
    with pytest.raises(ParamError, match="33 receivers"):
        backend.prepare(setup_of(receivers=33))
    assert detector.words == ["connect"]


def test_start_needs_a_new_prepare(rig):
    backend, detector = rig()

    with pytest.raises(CameraError, match="prepare it"):
        backend.start()
    backend.prepare(setup_of())
    backend.start()
    with pytest.raises(CameraError, match="prepare it"):
        backend.start()

    assert detector.words.count("do start") == 1


def start(backend, detector, setup, state="RUNNING"):
    backend.prepare(setup)
    backend.start()
    detector.values["status"] = [state] * detector.modules


def test_a_stop_tells_what_the_slowest_module_counted(rig):
    backend, detector = rig(2)
    start(backend, detector, setup_of(modules=2))
    detector.values["exposed"] = [7, 6]

    assert backend.stop() == 6
    assert backend.nb_exposed() == 6
    assert backend.stop() == 6
    assert detector.words.count("do stop") == 1


@pytest.mark.parametrize("kind", ["virtual", "storage cells"])
def test_a_stop_does_not_know_what_is_not_counted(rig, clock, kind):
    backend, detector = rig()
    detector.values["is_virtual"] = [kind == "virtual"]
    detector.values["chip"] = [1.0]
    cells = 0 if kind == "virtual" else 1
    params = params_of(
        {"expo_time": 1000, "latency_time": 0, "nb_frames": 100}, additional_storage_cells=cells
    )
    start(backend, detector, setup_of(params))
    clock.advance(0.0305)

    assert backend.stop() is None
    assert backend.nb_exposed() == (30 if kind == "virtual" else 0)


def test_a_stop_that_came_too_late_knows_all(rig):
    backend, detector = rig()
    start(backend, detector, setup_of(), state="IDLE")

    assert backend.stop() == 10
    assert "do stop" not in detector.words


def test_a_stop_before_the_start_exposed_nothing(rig):
    backend, _ = rig()
    backend.prepare(setup_of())

    assert backend.stop() == 0


def test_a_stop_that_takes_long_is_not_taken_for_the_end_by_itself(rig):
    backend, detector = rig()
    start(backend, detector, setup_of())
    detector.refuse = {"stop": "Detector returned: still busy"}

    with pytest.raises(CameraError):
        backend.stop()
    detector.refuse = {}
    detector.values.update(status=["IDLE"], exposed=[4])

    assert backend.stop() == 4


def test_frames_are_counted_until_all_are_there(rig, clock):
    backend, detector = rig()
    assert backend.nb_exposed() == 0
    start(backend, detector, setup_of())

    seen = []
    for counter, state in ((3, "RUNNING"), (3, "RUNNING"), (10, "RUNNING"), (10, "IDLE")):
        detector.values.update(exposed=[counter], status=[state])
        clock.advance(1.0)
        seen.append(backend.nb_exposed())

    assert seen == [3, 3, 9, 10]


@pytest.mark.parametrize(
    ("states", "counts", "certain"),
    [
        (["STOPPED", "IDLE"], [4, 4], True),
        (["RUNNING", "ERROR"], [4, 4], False),
        (["IDLE", "IDLE"], [10, 10], None),
        (["STOPPED", "STOPPED"], [10, 10], None),
        (["RUNNING", "RUNNING"], [4, 4], None),
    ],
)
def test_a_detector_that_ends_early_has_failed(rig, clock, states, counts, certain):
    backend, detector = rig(2)
    start(backend, detector, setup_of(modules=2))
    assert backend.failure() is None

    detector.values.update(status=states, exposed=counts)
    clock.advance(1.0)
    failure = backend.failure()

    assert (failure.certain if failure else None) is certain
    if certain:
        assert "stopped by itself, or was stopped by others, after 4 frames" in failure.reason


def test_a_detector_that_is_stopped_here_has_not_failed(rig, clock):
    backend, detector = rig()
    start(backend, detector, setup_of())
    detector.values["exposed"] = [4]

    backend.stop()
    clock.advance(1.0)

    assert backend.failure() is None


@pytest.mark.parametrize("alive", [True, False])
def test_of_a_detector_that_does_not_answer_it_is_not_certain_that_it_failed(rig, clock, alive):
    backend, detector = rig()
    start(backend, detector, setup_of())
    detector.pending = "is late"
    detector.alive = alive
    assert backend.failure() is None

    clock.advance(UNHEARD_S)
    failure = backend.failure()

    assert not failure.certain
    assert ("does not answer" if alive else "process that runs slsdet has ended") in failure.reason
    detector.pending, detector.alive = None, True
    clock.advance(1.0)
    assert backend.failure() is None


@pytest.mark.parametrize("is_in_use", [False, True])
def test_nobody_waits_to_hear_whether_a_silent_detector_failed(rig, clock, monkeypatch, is_in_use):
    backend, detector = rig()
    start(backend, detector, setup_of())
    clock.advance(1.0)
    waited_s = []

    def keep_silent(steps, about, *, limit_s, patience_s=0.0):
        waited_s.append(limit_s)
        raise CameraError("is late")

    monkeypatch.setattr(detector, "run", keep_silent)
    if is_in_use:
        backend._lock.acquire()
    for _ in range(3):
        assert backend.failure() is None
        clock.advance(0.1)

    assert sum(waited_s) <= 3 * 0.02
    assert len(waited_s) == (0 if is_in_use else 3)


def test_the_detector_is_not_asked_for_progress_too_often(rig, clock):
    backend, detector = rig()
    start(backend, detector, setup_of())
    clock.advance(1.0)
    backend.nb_exposed()
    detector.values["exposed"] = [5]

    assert backend.nb_exposed() == 0
    clock.advance(1.0)
    assert backend.nb_exposed() == 5


def test_a_software_trigger_waits_for_a_detector_that_waits(rig):
    backend, detector = rig()
    params = params_of({"trigger_mode": "software"})
    with pytest.raises(CameraError, match="not prepared for software triggers"):
        backend.trigger()
    backend.prepare(setup_of(params))
    with pytest.raises(CameraError, match="start"):
        backend.trigger()
    backend.start()

    detector.values["status"] = ["WAITING"]
    backend.trigger()
    detector.values["status"] = ["IDLE"]
    with pytest.raises(CameraError, match=r"is idle .* would be lost"):
        backend.trigger()

    assert detector.words.count("do trigger") == 1


def test_a_trigger_during_an_exposure_is_refused_in_time(rig, clock, monkeypatch):
    backend, detector = rig()
    start(backend, detector, setup_of(params_of({"trigger_mode": "software"})))
    monkeypatch.setattr(backend._never, "wait", clock.advance)

    with pytest.raises(CameraError, match=r"is running .* would be lost"):
        backend.trigger()

    assert "do trigger" not in detector.words


def test_a_virtual_detector_takes_triggers_at_any_time(rig):
    backend, detector = rig()
    detector.values["is_virtual"] = [True]
    start(backend, detector, setup_of(params_of({"trigger_mode": "software"})))

    backend.trigger()

    assert detector.words.count("do trigger") == 1
    assert backend.model == "JUNGFRAU 0.5M (virtual)"


def test_an_internal_acquisition_takes_no_trigger(rig):
    backend, detector = rig()
    start(backend, detector, setup_of())

    with pytest.raises(CameraError, match="not prepared for software triggers"):
        backend.trigger()


def test_readings_are_those_of_the_hottest_module(rig, clock):
    backend, detector = rig(3)
    backend.prepare(setup_of(modules=3))
    detector.values["status"] = ["IDLE", "RUNNING", "IDLE"]

    assert backend.readings() == {
        "temperature": 40,
        "temperature_fpga": 33,
        "temperature_adc": 40,
        "detector_state": "running",
        "temp_event": False,
    }
    assert backend.serial == "0x1a, 0x1b, 0x1c"
    detector.values["too_hot"] = [0, 0, 1]
    assert not backend.readings()["temp_event"]  # those of a moment ago
    clock.advance(2.0)
    assert backend.readings()["temp_event"]


def test_readings_do_not_wait_for_a_prepare(rig, clock, monkeypatch):
    backend, detector = rig()
    backend.prepare(setup_of())
    before = backend.readings()
    clock.advance(2.0)
    inside, go_on = threading.Event(), threading.Event()
    carry_out = detector.carry_out

    def slowly(step):
        if step.name == "frames":
            inside.set()
            assert go_on.wait(20)
        return carry_out(step)

    monkeypatch.setattr(detector, "carry_out", slowly)
    preparing = threading.Thread(target=lambda: backend.prepare(setup_of()))
    preparing.start()
    assert inside.wait(20)
    reads = []
    try:
        reads = [backend.readings(), backend.readings()]
    finally:
        go_on.set()
        preparing.join(20)

    assert reads == [before, before]


def test_a_detector_that_does_not_answer_has_no_readings(rig, clock):
    backend, detector = rig()
    backend.prepare(setup_of())
    clock.advance(2.0)
    detector.pending = "is late"
    assert backend.readings() == {"detector_state": "busy"}

    clock.advance(2.0)
    run = detector.run

    def die(*args, **options):
        detector.alive = False
        return run(*args, **options)

    detector.run = die
    assert backend.readings() == {"detector_state": "no answer"}


def test_another_command_is_not_waited_for_without_end(rig, monkeypatch):
    backend, _ = rig()
    monkeypatch.setattr(slsdet_backend, "ANSWER_S", 0.01)

    with backend._lock, pytest.raises(CameraError, match="busy with another command"):
        backend.prepare(setup_of())


def test_after_close_it_can_be_used_again(rig):
    backend, detector = rig()
    backend.prepare(setup_of())

    backend.close()
    backend.close()
    assert backend.readings() == {"detector_state": "not connected"}
    backend.prepare(setup_of())

    assert detector.words.count("connect") == 2


def test_close_ends_what_was_started_here_and_nothing_else(rig, caplog):
    backend, detector = rig()
    backend.prepare(setup_of())
    backend.close()
    assert "do stop" not in detector.words
    start(backend, detector, setup_of())

    backend.close()

    assert detector.words.count("do stop") == 1
    detector.values["status"] = ["IDLE"]
    start(backend, detector, setup_of())
    detector.refuse = {"stop": "Detector returned: busy"}
    backend.close()
    assert "may still be exposing" in caplog.text
    assert not detector.alive
