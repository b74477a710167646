"""Commands of a system, and events, from devices that follow a script."""

import json
import math

import pytest

from client import (
    CameraError,
    Lima2,
    NotAvailableError,
    ParamError,
    StateError,
    UnreachableError,
    wire,
)
from client.params import Params
from tests.unit.client.scripted import SCHEMA, Scripted, ScriptedRun


class System:
    """A control device that prepares one run after the other."""

    def __init__(self):
        self.device = Scripted()
        self.device.values |= {
            wire.FRONT_PARAMS: Params.of_schema(json.dumps(SCHEMA)).to_json(),
            wire.CURRENT_RUN: "",
            wire.FRONT_STATE: "idle",
            wire.RUN_PHASE: "none",
        }
        self.device.commands[wire.PREPARE_WITH] = self.prepare
        self.device.commands[wire.START_RUN] = self.start
        self.prepared = []
        """Parameters that were sent, as JSON."""
        self.lima = Lima2("", device=self.device)

    def prepare(self, text):
        self.prepared.append(text)
        uuid = f"u-{len(self.device.peers)}"
        run = ScriptedRun(("done", [0]), uuid=uuid)
        self.device.peers[run.name] = run
        self.device.values[wire.CURRENT_RUN] = uuid
        return uuid

    def start(self, uuid):
        if uuid != self.device.values[wire.CURRENT_RUN]:
            raise StateError(f"run {uuid} was given up")

    @property
    def commands(self):
        return [name for name, _ in self.device.calls]


@pytest.fixture
def system():
    return System()


def test_a_detector_that_needs_a_while_is_asked_again(system, monkeypatch):
    monkeypatch.setattr("client.system.RETRY_S", 0.001)
    refusals = [CameraError("it is being configured", left_s=3.0)] * 2

    def busy(text):
        if refusals:
            raise refusals.pop()
        return system.prepare(text)

    system.device.commands[wire.PREPARE_WITH] = busy

    assert system.lima.prepare().uuid == "u-0"
    assert system.commands == [wire.PREPARE_WITH] * 3


def test_a_detector_that_refuses_is_not_asked_again(system):
    def refuse(text):
        raise CameraError("the chips are off")

    system.device.commands[wire.PREPARE_WITH] = refuse

    with pytest.raises(CameraError, match="chips are off"):
        system.lima.prepare()
    assert system.commands == [wire.PREPARE_WITH]


@pytest.fixture
def slow(system):
    """Servers that give no answer in time to the first prepare; two receivers."""
    refusals = [UnreachableError("r1 did not answer within 2.2 s")]

    def late(text):
        if refusals:
            raise refusals.pop()
        return system.prepare(text)

    system.device.commands[wire.PREPARE_WITH] = late
    system.device.values[wire.RECEIVER_STATES] = ("id00/r/0: idle", "id00/r/1: not asked yet")
    for name in ("id00/r/0", "id00/r/1"):
        system.device.peers[name] = Scripted(name)
    system.refusals = refusals
    return system


def test_a_receiver_that_was_late_and_is_alive_is_asked_once_more(slow):
    run = slow.lima.prepare()

    assert run.uuid == slow.device.values[wire.CURRENT_RUN]
    assert slow.commands == [wire.PREPARE_WITH] * 2


def test_a_receiver_that_is_late_again_is_told(slow):
    slow.refusals.append(slow.refusals[0])

    with pytest.raises(UnreachableError, match="r1 did not answer"):
        slow.lima.prepare()
    assert slow.commands == [wire.PREPARE_WITH] * 2


def test_a_receiver_that_is_dead_is_told_at_once(slow):
    slow.device.peers["id00/r/1"].values[wire.STATUS] = UnreachableError("gone")

    with pytest.raises(UnreachableError, match="r1 did not answer"):
        slow.lima.prepare()
    assert slow.commands == [wire.PREPARE_WITH]


def test_acquire_sends_all_parameters_starts_and_waits(system):
    system.lima.params.acquisition.acq.mode = "b"

    run = system.lima.acquire({"metadata": {"a": 1}}, nb_frames=5, exposure_s=0.5)

    assert run.complete
    assert system.device.calls[1:] == [(wire.START_RUN, run.uuid)]
    (text,) = system.prepared
    sent = json.loads(text)
    assert sent["acquisition"]["acq"]["nb_frames"] == 5
    assert sent["acquisition"]["acq"]["expo_time"] == 500_000
    assert sent["acquisition"]["acq"]["mode"] == "b"
    assert sent["metadata"] == {"a": 1}
    # What was asked for this acquisition only does not stay.
    assert system.lima.params.acquisition.acq.nb_frames == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nb_frames", -1),
        ("save_to", 3),
        ("save_to", b"/data"),
        ("prefix", 3),
        ("timeout_s", -1),
        ("timeout_s", math.nan),
        ("timeout_s", "long"),
        ("timeout_s", True),
    ],
)
def test_what_is_refused_here_reaches_no_server(system, name, value):
    with pytest.raises(ParamError):
        system.lima.acquire(**{name: value})

    assert system.device.calls == []


def test_another_pipeline_is_prepared_with_all_its_parameters(system):
    system.lima.acquire({"processing.files.base_path": "/x", "processing.class_name": "Files"})

    assert json.loads(system.prepared[0])["processing"] == {
        "class_name": "Files",
        "files": {"base_path": "/x", "filename_prefix": "lima2"},
    }


def test_parameters_go_with_the_prepare_and_not_by_way_of_what_all_clients_write(system):
    system.lima.prepare({"acquisition.acq.nb_frames": 3})

    assert system.device.written == {}
    assert json.loads(system.prepared[0])["acquisition"]["acq"]["nb_frames"] == 3


def test_a_relative_folder_is_below_the_present_one(system, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    system.lima.acquire(save_to="data")

    saving = json.loads(system.prepared[0])["processing"]["saving"]
    assert saving["enabled"]
    assert saving["base_path"] == str(tmp_path / "data")


def test_the_run_of_another_client_is_not_started(system):
    mine = system.lima.prepare()
    system.lima.prepare()

    with pytest.raises(StateError, match="given up"):
        system.lima.start(mine)
    assert wire.START not in system.commands


def test_there_is_no_run_before_the_first(system):
    with pytest.raises(NotAvailableError, match="not prepared anything"):
        system.lima.run()


def test_wait_ends_when_the_system_is_at_rest(system):
    system.device.values[wire.FRONT_STATE] = ["running", UnreachableError("x"), "foreign", "fault"]

    assert system.lima.wait(20) == "fault"


def test_every_state_is_told_even_if_many_come_before_anybody_looks(system):
    events = system.lima.events(timeout_s=20)
    assert next(events).state == "idle"
    system.device.on_follow = lambda attribute, put: [
        put(state) for state in ("prepared", "running", "idle") if attribute == wire.FRONT_STATE
    ]

    states = [next(events).state for _ in range(3)]

    assert states == ["prepared", "running", "idle"]


def test_without_events_the_system_is_looked_at(system):
    system.device.follows = False
    system.device.values[wire.FRONT_STATE] = ["idle", "prepared", "running", "idle"]

    events = system.lima.events(timeout_s=20)
    states = [next(events).state for _ in range(4)]

    assert states == ["idle", "prepared", "running", "idle"]


def test_a_server_that_is_away_is_an_event_and_its_return_too(system):
    system.device.follows = False
    system.device.values[wire.FRONT_STATE] = ["idle", UnreachableError("gone"), "idle"]

    events = system.lima.events(timeout_s=20)
    states = [next(events).state for _ in range(3)]

    assert states == ["idle", "unreachable", "idle"]


def test_events_end_after_their_time(system):
    system.device.follows = False

    assert [event.state for event in system.lima.events(timeout_s=0.05)] == ["idle"]


def test_events_show_the_progress_of_the_current_run(system):
    system.lima.prepare()

    event = next(system.lima.events(timeout_s=20))

    assert event.run == "u-0"
    assert event.progress.percent == 40.0
    assert event.status == "All is well."


def test_who_leaves_the_loop_follows_no_more(system):
    events = system.lima.events()
    next(events)
    system.device.values[wire.FRONT_STATE] = "running"
    next(events)  # follows by now

    events.close()

    assert not any(system.device.followers.values())
