"""Every fault in every phase of a run of real servers: a defined end, and a next run that works.

In every cell the system is at rest within five seconds with the cause in its status, the ledger
adds up, every frame that was flushed is readable at its index, and the next acquisition works.
"""

import contextlib
import signal

import pytest
import tango

from tests.system.fault_lab import (
    GUARD_S,
    LIMIT_S,
    SystemLab,
    assert_books,
    assert_master,
    fill,
    freeze,
    freezing_disk,
    id_of,
    peak,
    small_disk,
    thaw,
)
from tests.tango.devices import wait_until
from tests.tango.front_rig import RESTING

# blissdata asks a Redis before version 8 in the way that this one knows.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated config_set")

FRAMES = {"prepared": 60, "running": 300, "draining": 60}
BURST = 200
"""Frames of a running run before the fault, which the others come after."""
HELD_FROM = 24
"""Frames of a draining run from here on wait for the fault."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The servers, for all cells."""
    with SystemLab(tmp_path_factory.mktemp("faults"), camera="Faulty") as lab:
        yield lab


@pytest.fixture
def lab(shared):
    """The system at rest; brought to rest afterwards."""
    shared.clear()
    yield shared
    shared.clear()


class Fault:
    """One row of the matrix; what it does not say differently is nothing."""

    cause = ""
    at_once = False
    """Whether it ends a run that is only prepared."""
    ends_well = False

    def __init__(self, lab, folder):
        self.lab = lab
        self.folder = folder

    def changes(self, phase):
        """Parameters that bring it about."""
        return {}

    def strike(self):
        """Let it happen."""

    def heal(self):
        """Repair what is broken, as an operator would."""


class Killed(Fault):
    cause = "simulator2 died"
    at_once = True

    def strike(self):
        self.lab.servers.kill(self.lab.instance(1))

    def heal(self):
        self.lab.servers.restart(self.lab.instance(1))


class Stopped(Fault):
    cause = "simulator2 does not answer"
    at_once = True

    def strike(self):
        self.lab.signal(1, signal.SIGSTOP)

    def heal(self):
        self.lab.signal(1, signal.SIGCONT)


class Raising(Fault):
    """A task raises at a frame, and at all later ones."""

    cause = "a pixel counted"

    def changes(self, phase):
        frame, expo_s = {"prepared": (0, 0.005), "running": (100, 0.005), "draining": (50, 0.001)}[
            phase
        ]
        group = "processing.max_countrate_protection"
        limit = int((100 * (1 + 0.1 * frame) - 2) / expo_s)
        return {f"{group}.enabled": True, f"{group}.max_countrate": limit}


class Dying(Fault):
    """The detector dies in the middle."""

    cause = "the simulated detector died after"

    def changes(self, phase):
        return {"acquisition.det.dead_after_frames": FRAMES[phase] // 2}


class Full(Fault):
    cause = "No space left"

    def strike(self):
        self.filler = fill(self.folder)

    def heal(self):
        self.filler.unlink()


class Slow(Fault):
    """Writers wait until the status tells so."""

    cause = "frames are valid"
    ends_well = True

    def strike(self):
        freeze(self.folder)

    def look(self):
        try:
            wait_until(lambda: "disk" in self.lab.control.status(), "what it waits for", GUARD_S)
        finally:
            thaw(self.folder)


class RedisDown(Fault):
    cause = "does not answer"
    ends_well = True

    def strike(self):
        self.lab.redis.kill()

    def heal(self):
        self.lab.redis.start()


FAULTS = {
    "killed": Killed,
    "stopped": Stopped,
    "raising": Raising,
    "dying": Dying,
    "full": Full,
    "slow": Slow,
    "redis": RedisDown,
}


@pytest.fixture
def fault(request, lab, tmp_path):
    """A fault by its name, with a folder that it can happen in."""
    made = FAULTS[request.param]
    folder = tmp_path / "data"
    if made is Full:
        with small_disk(folder):
            yield made(lab, folder)
    elif made is Slow:
        with freezing_disk(folder):
            yield made(lab, folder)
    else:
        folder.mkdir()
        yield made(lab, folder)


@pytest.mark.parametrize("phase", ["prepared", "running", "draining"])
@pytest.mark.parametrize("fault", FAULTS, indirect=True)
def test_a_fault_leads_to_rest_with_its_cause_and_the_next_run_works(lab, fault, phase):
    nb_frames = FRAMES[phase]
    draining = phase == "draining"
    prefix = lab.order(
        fault.folder,
        nb_frames,
        expo_s=0.001 if draining else 0.005,
        large=draining,
        burst=BURST if phase == "running" else None,
        held_from=HELD_FROM if draining else None,
        **fault.changes(phase),
    )
    run = lab.prepare()
    if phase != "prepared":
        lab.control.startAcq()
    if draining:
        lab.wait_draining(run)
    elif phase == "running":
        lab.control.triggerAcq()
        lab.wait_saving()

    fault.strike()
    lab.open_gate(prefix)
    if phase == "prepared" and not fault.at_once:
        lab.control.startAcq()
    elif phase == "running":
        with contextlib.suppress(tango.DevFailed):  # the run may have ended by the fault
            lab.control.triggerAcq()
    if isinstance(fault, Slow):
        fault.look()
    lab.wait_rest(fault.cause)
    run.wait_ended(GUARD_S)

    if phase == "prepared" and fault.at_once:
        assert (lab.front.state, run.phase) == ("fault", "discarded")
    else:
        assert run.phase == ("done" if fault.ends_well else "incomplete")
        assert lab.front.state in RESTING
        assert_books(run, nb_frames)
        valid = assert_master(fault.folder, prefix, run)
        assert len(valid) == nb_frames or not fault.ends_well
        if phase == "running":
            assert len(valid) > 20
        if isinstance(fault, Dying):
            assert run.counts()["never_sent"] == nb_frames - len(valid) == nb_frames // 2
            assert lab.scan(id_of(run)).info["end_reason"] == "FAILURE"
    fault.heal()
    following = lab.quick(fault.folder)
    if isinstance(fault, RedisDown):
        scan = lab.scan(id_of(run))
        assert scan.info["end_reason"] == "SUCCESS"
        assert len(scan.streams["frame"]) == nb_frames
    assert lab.scan(id_of(following)).info["end_reason"] == "SUCCESS"


ENDLESS = 0


@pytest.mark.parametrize("fault", ["killed", "stopped", "raising", "full"], indirect=True)
def test_a_receiver_that_is_lost_or_fails_ends_a_run_that_shall_not_go_on_without_it(lab, fault):
    changes = {"policy.receiver_lost": "abort", **fault.changes("running")}
    prefix = lab.order(fault.folder, ENDLESS, expo_s=0.005, **changes)
    run = lab.begin()
    lab.wait_saving()

    fault.strike()
    lab.wait_rest(fault.cause)
    run.wait_ended(GUARD_S)

    assert (lab.front.state, run.phase) == ("fault", "incomplete")
    assert_books(run, run.counts()["expected"])
    # A receiver that is killed takes with it what it had not flushed.
    assert len(assert_master(fault.folder, prefix, run)) > 20
    fault.heal()
    lab.quick(fault.folder)


@pytest.mark.parametrize("fault", ["killed", "stopped"], indirect=True)
def test_a_run_without_end_goes_on_without_a_lost_receiver_until_it_is_stopped(lab, fault):
    policy = {"policy.receiver_lost": "continue"}
    prefix = lab.order(fault.folder, ENDLESS, expo_s=0.005, **policy)
    run = lab.begin()
    lab.wait_saving()

    fault.strike()
    wait_until(lambda: fault.cause in lab.control.status(), fault.cause, LIMIT_S)
    before = lab.control.frames_received
    wait_until(lambda: lab.control.frames_received > before + 20, "frames of the other", GUARD_S)
    state = lab.front.state
    lab.control.stopAcq()
    lab.wait_rest(fault.cause)
    run.wait_ended(GUARD_S)

    assert (state, run.phase) == ("running", "done")
    counts = run.counts()
    assert counts["receiver_lost"] > 10
    assert_books(run, counts["expected"])
    valid = assert_master(fault.folder, prefix, run)
    assert sum(idx % 2 == 0 for idx in valid) > sum(idx % 2 for idx in valid) + 10
    fault.heal()
    lab.quick(fault.folder)


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"dropped_frame_idx": 33}, [33]),
        ({"repeated_every": 7}, []),
        ({"turned_every": 4}, []),
        ({"repeated_every": 7, "turned_every": 5, "dropped_frame_idx": 33}, [33]),
    ],
    ids=["dropped", "duplicated", "out of order", "all of them"],
)
def test_a_frame_that_is_lost_repeated_or_late_leaves_all_others_in_their_places(
    lab, tmp_path, changes, lost
):
    nb_frames = 120
    det = {f"acquisition.det.{name}": value for name, value in changes.items()}
    prefix = lab.order(tmp_path, nb_frames, **det)

    run = lab.begin()
    run.wait_ended(GUARD_S)

    lab.wait_rest("1 dropped" if lost else f"all {nb_frames} frames are valid")
    assert run.phase == ("incomplete" if lost else "done")
    assert_books(run, nb_frames)
    valid = assert_master(tmp_path, prefix, run, rows_tell=False)
    assert valid == [idx for idx in range(nb_frames) if idx not in lost]
    assert run.frame("34").data.max() == round(peak(34))
    lab.quick(tmp_path)
