import threading
import time

import pytest

from lima2_core.errors import BusyError, CameraError, Lima2Error, ParamError, StateError
from lima2_core.ids import AcqId
from lima2_core.state.device import AcqState
from lima2_core.system import team as team_module
from lima2_core.system.ports import ControlStatus, UnreachableError
from lima2_core.system.team import Team
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.testing.system_doubles import ScriptedControl, ScriptedReceiver
from lima2_core.testing.system_script import order

A = AcqId("a")


HANG_S, SOON_S = 60.0, 15.0
"""How long a part hangs unless it is let go, and what surely is no wait for it."""


class Parts:
    """A team of scripted parts."""

    def __init__(self):
        self.control = ScriptedControl()
        self.receivers = [ScriptedReceiver("r0"), ScriptedReceiver("r1")]
        self.team = Team(self.control, self.receivers)

    def prepare(self, acq_id=A):
        asked = order(4)
        return self.team.prepare(
            acq_id, asked.acquisition, [asked.part(n, acq_id) for n in range(2)], LIMIT_S
        )

    def close(self):
        for part in (self.control, *self.receivers):
            part.manners.let_go()
        self.team.close()


LIMITS = ("PREPARE_S", "SETTLE_S", "START_S", "STOP_S", "HEAD_START_S")


@pytest.fixture
def parts(monkeypatch):
    for name in LIMITS:  # this computer may stand still for longer than a detector may
        monkeypatch.setattr(team_module, name, LIMIT_S)
    parts = Parts()
    yield parts
    parts.close()


@pytest.fixture
def hasty(parts, monkeypatch):
    """Limits of time that a test can wait for."""
    for name in LIMITS:
        monkeypatch.setattr(team_module, name, 0.2)


def ours(acq_id):
    return acq_id == A


def test_all_are_prepared_at_the_same_time(parts):
    together = threading.Barrier(3)

    def meet(call, manners):
        original = manners.meet

        def met(name):
            original(name)
            if name == call:
                together.wait(LIMIT_S)

        manners.meet = met

    for part in (parts.control, *parts.receivers):
        meet("prepare", part.manners)

    applied, detector, prepared = parts.prepare()

    assert applied == {"acq": {"nb_frames": 4}}
    assert detector == {"model": "Scripted"}
    assert [port for port, _ in prepared] == [receiver.run for receiver in parts.receivers]


def test_the_detector_starts_after_the_receivers(parts):
    parts.prepare()
    states = []
    parts.control.start = lambda: states.extend(receiver.state for receiver in parts.receivers)

    parts.team.start()

    assert states == [AcqState.RUNNING] * 2


def test_the_detector_does_not_start_without_all_receivers(parts):
    parts.prepare()
    parts.receivers[1].manners.errors["start"] = StateError("it is not prepared")

    with pytest.raises(StateError, match="r1: it is not prepared"):
        parts.team.start()

    assert "start" not in parts.control.manners.calls


@pytest.mark.parametrize(
    ("error", "told", "text"),
    [
        (ParamError("no", path="a.b"), ParamError, "r1: a.b: no"),
        (CameraError("it broke"), CameraError, "r1: it broke"),
        (BusyError("it is busy"), UnreachableError, "r1: it is busy"),
        (UnreachableError("r1 is gone"), UnreachableError, "r1 is gone"),
        (ValueError("odd"), Lima2Error, "r1: odd"),
    ],
)
def test_an_error_says_where_it_comes_from(parts, error, told, text):
    parts.receivers[1].manners.errors["prepare"] = error

    with pytest.raises(told) as caught:
        parts.prepare()

    assert str(caught.value) == text
    assert getattr(caught.value, "path", "a.b") == "a.b"


def test_what_all_receivers_refuse_is_told_once_with_their_names(parts):
    for receiver in parts.receivers:
        receiver.manners.errors["prepare"] = ParamError("no such folder", path="saving.base_path")

    with pytest.raises(ParamError) as caught:
        parts.prepare()

    assert str(caught.value) == "r0, r1: saving.base_path: no such folder"
    assert caught.value.path == "saving.base_path"


def test_what_is_wrong_in_other_ways_is_told_of_each(parts):
    parts.control.manners.errors["prepare"] = CameraError("it broke")
    parts.receivers[0].manners.errors["prepare"] = CameraError("no memory")
    parts.receivers[1].manners.errors["prepare"] = CameraError("it broke")

    with pytest.raises(CameraError) as caught:
        parts.prepare()

    assert str(caught.value) == f"{parts.control.name}, r1: it broke; r0: no memory"


def test_those_who_are_late_are_named_together(parts, hasty):
    parts.prepare()
    for part in parts.receivers:
        part.manners.hangs_s["start"] = HANG_S

    with pytest.raises(UnreachableError, match=r"r0 and r1 did not answer within 0\.2 s"):
        parts.team.start()


def test_a_run_that_is_prepared_too_late_is_given_back_then(parts, hasty):
    asked = order(4)
    late = threading.Event()
    receiver = parts.receivers[1]
    original = receiver.prepare

    def prepare(one):
        late.wait(LIMIT_S)
        return original(one)

    receiver.prepare = prepare
    with pytest.raises(UnreachableError, match="r1 did not answer"):
        parts.team.prepare(A, asked.acquisition, [asked.part(n, A) for n in range(2)], 0.1)

    late.set()

    assert eventually(lambda: receiver.runs and receiver.run.closed)
    assert receiver.erased == [A]
    assert eventually(lambda: parts.receivers[0].erased == [A])


@pytest.mark.parametrize("state", list(AcqState))
def test_parts_are_brought_to_rest_if_they_are_not(parts, state):
    parts.prepare()
    for part in (parts.control, *parts.receivers):
        part.state = state

    parts.team.settle(ours)

    resets = ["reset" in part.manners.calls for part in (parts.control, *parts.receivers)]
    at_rest = state in (AcqState.IDLE, AcqState.PREPARED)
    for_detector = state in (AcqState.RUNNING, AcqState.FAULT)
    assert resets == [for_detector, not at_rest, not at_rest]


@pytest.mark.parametrize("which", ["control", "r0"])
def test_an_acquisition_of_others_is_left_alone(parts, which):
    parts.prepare(AcqId("theirs"))
    busy = parts.control if which == "control" else parts.receivers[0]
    busy.state = AcqState.RUNNING

    with pytest.raises(StateError, match=rf"{which} is busy .*\(theirs\)") as refused:
        parts.team.settle(ours)

    assert refused.value.details["acq_id"] == "theirs"
    assert "reset" not in busy.manners.calls


def test_a_stop_reaches_all_and_waits_no_longer_than_it_may(parts):
    parts.prepare()
    parts.team.start()
    parts.receivers[0].manners.hangs_s["stop"] = HANG_S
    began_s = time.monotonic()

    parts.team.stop(0.1)

    assert time.monotonic() - began_s < SOON_S
    assert eventually(lambda: parts.control.state is AcqState.STOPPED)
    assert eventually(lambda: parts.receivers[1].run.status.finished)


def test_receivers_are_told_of_a_stop_once_the_detector_exposes_no_more(parts):
    parts.prepare()
    parts.team.start()
    stopping, go_on = threading.Event(), threading.Event()
    original = parts.control.stop

    def stop():
        stopping.set()
        go_on.wait(LIMIT_S)
        original()

    parts.control.stop = stop
    parts.team.stop(0.0)
    stopping.wait(LIMIT_S)
    told_before = ["stop" in part.manners.calls for part in parts.receivers]
    go_on.set()

    assert told_before == [False, False]
    assert eventually(lambda: all("stop" in part.manners.calls for part in parts.receivers))
    assert parts.control.state is AcqState.STOPPED


def test_receivers_are_told_of_a_stop_even_if_the_detector_does_not_answer(parts, monkeypatch):
    monkeypatch.setattr(team_module, "HEAD_START_S", 0.05)
    parts.prepare()
    parts.team.start()
    parts.control.manners.hangs_s["stop"] = HANG_S

    parts.team.stop(0.0)

    assert eventually(lambda: all("stop" in part.manners.calls for part in parts.receivers))


def test_nobody_waits_for_a_receiver_that_is_known_to_be_silent(parts):
    parts.prepare()
    parts.team.start()
    silent = parts.receivers[0]
    for call in ("stop", "reset"):
        silent.manners.hangs_s[call] = HANG_S
    watch = parts.team.watches[0]
    watch._silent_since_s = time.monotonic()
    began_s = time.monotonic()

    parts.team.stop(LIMIT_S)
    parts.team.reset()

    assert time.monotonic() - began_s < SOON_S
    assert {"stop", "reset"} <= set(parts.receivers[1].manners.calls)


def test_the_detector_is_asked_as_long_as_it_is_wanted(parts):
    told, wanted = [], threading.Event()
    wanted.set()
    parts.team.follow_control(told.append, wanted.is_set)
    assert eventually(lambda: len(told) > 2)

    parts.control.manners.dead = True
    assert eventually(lambda: isinstance(told[-1], UnreachableError))
    wanted.clear()
    asked = len(told)

    done = threading.Event()
    parts.team.conclude(lambda news: done.set())
    assert done.wait(LIMIT_S)
    assert len(told) <= asked + 2


def test_at_the_end_the_detector_is_asked_once_more_and_then_let_go(parts):
    parts.prepare()
    parts.control.exposed = 7
    told = []

    parts.team.conclude(told.append)

    assert eventually(lambda: "close" in parts.control.manners.calls)
    assert told == [ControlStatus(AcqState.PREPARED, 7, "", A)]


def test_only_a_detector_that_still_waits_for_this_run_is_disarmed(parts):
    parts.prepare()
    parts.prepare(AcqId("next"))

    parts.team.give_back(A)
    asked = threading.Event()
    parts.team.conclude(lambda news: asked.set())

    assert asked.wait(LIMIT_S)
    assert parts.control.manners.calls.count("close") <= 1
    assert eventually(lambda: parts.receivers[0].erased == [A])


def test_what_cannot_be_done_quietly_is_left(parts):
    parts.prepare()
    for receiver in parts.receivers:
        receiver.manners.errors.update(
            {"erase": CameraError("no"), "process": CameraError("no"), "reset": CameraError("no")}
        )

    parts.team.erase(A)
    parts.team.process(A)
    parts.team.recall()
    parts.team.reset()

    calls = parts.receivers[0].manners.calls
    assert [call for call in calls if call in ("erase", "process", "reset")] == [
        "erase",
        "process",
        "reset",
        "reset",
    ]


def test_closing_does_not_wait_for_those_who_hang(parts, hasty):
    parts.receivers[0].manners.hangs_s["status"] = HANG_S
    with pytest.raises(UnreachableError):
        parts.team.settle(ours)
    began_s = time.monotonic()

    parts.team.close()

    assert time.monotonic() - began_s < SOON_S
