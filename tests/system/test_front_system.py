"""The front of a system of several processes: what it does when one of them stops or dies."""

import contextlib
import json
import os
import signal
import threading
import time

import h5py
import numpy as np
import pytest
import tango
from blissdata.lima import image_utils

from lima2_core.data.frame import Validity
from lima2_core.system.ports import UnreachableError
from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.ports import Line
from tests.system.lab import Lab, expected
from tests.tango.devices import Events, reason, wait_until
from tests.tango.front_rig import FrontRig

CONTROL, FIRST, SECOND = "simulator_ctl", "simulator_rcv1", "simulator_rcv2"
ENDLESS = 0
BURST = 300
"""Frames of one trigger."""
REST_S = 5.0
"""A system is in a resting state so long after a fault."""
HOLD_S = 3.0
"""No command holds the device for longer."""


@pytest.fixture(scope="module")
def front_lab(tmp_path_factory):
    """A system of its own, with a conductor beside the front: its servers are killed."""
    folder = tmp_path_factory.mktemp("front")
    with (
        EmbeddedDatabase(folder, load_deployment("round_robin_2")) as database,
        Lab(folder, database.tango_host) as lab,
    ):
        yield lab


@pytest.fixture
def front(front_lab):
    """The front of a whole system at rest."""
    revive(front_lab)
    rig = FrontRig(front_lab.tango_host, front_lab.deployment.control.name)
    rig.clear()
    rig.defaults()
    return rig


@pytest.fixture
def servers(front_lab):
    return front_lab.servers


@pytest.fixture
def stuck(front):
    """All that the front tells about what it waits for; a look may come too late."""
    events = Events(front.control, "stuck", tango.EventType.CHANGE_EVENT)
    yield events
    events.close()


def revive(lab):
    """Have all servers running."""
    for instance in (CONTROL, FIRST, SECOND):
        if lab.servers.running(instance):
            os.killpg(lab.servers.pid(instance), signal.SIGCONT)
        else:
            lab.servers.restart(instance)


def begin(front, **values):
    """Start a run of two triggers, of which one is given; it has not ended before the other."""
    front.set(acq_trigger_mode="software", nb_frames_per_trigger=BURST)
    front.set(acq_nb_frames=2 * BURST, acq_expo_time=0.002, **values)
    run = front.run(front.control.acquire())
    front.control.triggerAcq()
    return run


def wait_frames(front):
    wait_until(lambda: front.control.frames_received > 50, "some frames", 10)


@contextlib.contextmanager
def kept(lab, acq_id):
    """Ask for news of a run in place of its front, without which receivers end it after 5 s."""
    names = [lab.system.processing_name(acq_id, receiver) for receiver in range(2)]
    devices = [lab.system.proxy(name) for name in names]
    over = threading.Event()

    def ask():
        while not over.wait(0.5):
            for device in devices:
                with contextlib.suppress(tango.DevFailed):  # nobody knows which news are next
                    device.readNews([1, 0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()


@contextlib.contextmanager
def beating():
    """Times at which a thread of this process could run."""
    over, times_s = threading.Event(), [time.monotonic()]

    def beat():
        while not over.wait(0.01):
            times_s.append(time.monotonic())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield times_s
    finally:
        over.set()
        thread.join()


def timed(command, *arguments):
    """Seconds that a command took, and its error if it failed."""
    begun_s = time.monotonic()
    try:
        command(*arguments)
        error = None
    except tango.DevFailed as failed:
        told = reason(failed)[1]
        error = told["what"] if isinstance(told, dict) else told  # Tango itself tells a text
    return time.monotonic() - begun_s, error


def test_frames_are_in_the_master_and_at_the_device_of_the_run(front, tmp_path):
    front.set(acq_nb_frames=30, saving_enabled=True, saving_directory=str(tmp_path))
    front.change({"acquisition.det.dropped_frame_idx": 3})

    run = front.acquire()

    with h5py.File(tmp_path / "lima2_master.h5") as file:
        frames = file["entry_0000/instrument/detector/data"][()]
    assert frames.shape == (30, 32, 48)
    maxima = [0 if idx == 3 else expected(idx) for idx in range(30)]
    assert frames.max(axis=(1, 2)).tolist() == maxima
    shown = [image_utils.image_from_server(run.device, idx) for idx in range(30)]
    assert [image.frame_id for image in shown] == list(range(30))
    assert all(np.array_equal(image.array, frames[n]) for n, image in enumerate(shown))
    assert str(tmp_path / "lima2_master.h5") in run.device.files


def test_a_receiver_that_dies_is_named_and_the_others_finish(front, servers):
    run = begin(front)
    wait_frames(front)

    servers.kill(SECOND)
    front.control.triggerAcq()
    run.wait_ended(2 * BURST * 0.002 + REST_S)

    assert run.phase == "incomplete"
    assert front.state in ("idle", "fault")
    verdict = run.device.verdict
    assert "simulator2 died" in verdict
    counts = run.counts()
    assert counts["receiver_lost"] > 0
    assert counts["valid"] >= 300
    assert sum(counts.values()) - counts["expected"] == counts["expected"]
    codes = run.ledger()[1]["code"]
    assert set(codes[::2]) == {Validity.VALID}
    assert Validity.RECEIVER_LOST in codes[1::2]
    took_s, error = timed(front.control.prepareAcq)
    assert took_s < HOLD_S
    assert "simulator2" in error
    servers.restart(SECOND)
    front.defaults()
    assert front.acquire().phase == "done"


def test_without_the_parts_of_a_receiver_that_dies_statistics_go_on_coming(front, servers):
    front.change({"acquisition.det.dispatch_mode": "partial_frame"})
    run = begin(front, statistics_rois="[[0, 0, 48, 32], [4, 2, 30, 12]]")
    cursor = run.device.openCursor("roi_statistics")
    seen = []

    def some_records():
        seen.append(run.read(cursor)[1])
        return sum(map(len, seen)) > 2 * 50

    wait_until(some_records, "records of both parts", 10)
    servers.kill(SECOND)
    front.control.triggerAcq()
    run.wait_ended(2 * BURST * 0.002 + REST_S)

    _, records = run.read(run.device.openCursor("roi_statistics"))
    records = records.reshape(-1, 2)
    assert records["frame_idx"][:, 0].tolist() == list(range(2 * BURST))
    across, upper = np.isnan(records["sum"]).T
    last = int(across.argmax())
    assert 40 < last <= BURST
    assert across.tolist() == [idx >= last for idx in range(2 * BURST)]
    assert not upper.any()  # it is in the part of the other receiver
    servers.restart(SECOND)


def test_a_receiver_that_stops_is_given_up_in_time_and_used_again(front, servers, stuck):
    front.set(acq_nb_frames=ENDLESS, acq_expo_time=0.002)
    run = front.run(front.control.acquire())
    wait_frames(front)

    os.killpg(servers.pid(FIRST), signal.SIGSTOP)
    begun_s = time.monotonic()
    wait_until(lambda: "simulator1 does not answer" in front.control.verdict, "its loss")
    words = list(stuck.seen)
    stop_s, _ = timed(front.control.stopAcq)
    run.wait_ended(REST_S)
    took_s = time.monotonic() - begun_s
    state = front.state
    prepare_s, error = timed(front.control.prepareAcq)
    reset_s, _ = timed(front.control.resetAcq)
    os.killpg(servers.pid(FIRST), signal.SIGCONT)

    assert any("simulator1 has not answered" in word for word in words)
    assert took_s < REST_S
    assert state in ("idle", "fault")
    assert max(stop_s, prepare_s, reset_s) < HOLD_S
    assert "simulator1 did" in error or "simulator1 does not answer" in error
    front.set(acq_nb_frames=10, acq_expo_time=0.001)
    wait_until(lambda: timed(front.control.prepareAcq)[1] is None, "the receiver again", 30)
    front.control.startAcq()
    again = front.run(front.control.current_run)
    assert again.wait_ended() == "done"


def test_prepares_are_refused_in_time_as_long_as_a_receiver_stands_still(front, servers):
    os.killpg(servers.pid(FIRST), signal.SIGSTOP)

    # For longer than Tango tries to reach it: some of these meet each of its stages.
    refused = [timed(front.control.prepareAcq) for _ in range(8)]
    os.killpg(servers.pid(FIRST), signal.SIGCONT)

    assert max(took_s for took_s, _ in refused) < HOLD_S
    assert all("simulator1 did" in told or "simulator1 does" in told for _, told in refused)
    wait_until(lambda: timed(front.control.prepareAcq)[1] is None, "the receiver again", 30)


def test_who_asks_a_process_that_stands_still_goes_on_with_all_else(front, servers):
    device = f"tango://{front.tango_host}/id00/limareceiver/simulator1"
    line, connected = Line(device), threading.Event()

    def state(proxy):
        connected.set()  # as far as that is possible
        return str(proxy.state())

    os.killpg(servers.pid(FIRST), signal.SIGSTOP)
    with beating() as times_s:
        with pytest.raises(UnreachableError, match="does not answer"):
            line.ask(device, state, 0.1)
        assert connected.wait(30)
    os.killpg(servers.pid(FIRST), signal.SIGCONT)

    assert np.diff(times_s).max() < 2.0
    assert line.ask(device, state, 10.0) == "ON"
    line.close()


def test_a_short_silence_loses_nothing(front, servers):
    run = begin(front, statistics_rois="[[0, 0, 48, 32]]")
    wait_frames(front)

    os.killpg(servers.pid(FIRST), signal.SIGSTOP)
    wait_until(lambda: "has not answered" in front.control.stuck, "the silence")
    os.killpg(servers.pid(FIRST), signal.SIGCONT)
    front.control.triggerAcq()
    run.wait_ended()

    assert run.device.verdict == f"all {2 * BURST} frames are valid"
    _, records = run.read(run.device.openCursor("roi_statistics"))
    assert records["frame_idx"].tolist() == list(range(2 * BURST))


def test_an_abort_on_loss_stops_the_others(front, servers):
    front.set(acq_nb_frames=ENDLESS, fault_policy='{"receiver_lost": "abort"}')
    run = front.run(front.control.acquire())
    wait_frames(front)

    servers.kill(SECOND)
    run.wait_ended(REST_S)

    assert front.state == "fault"
    assert "simulator2 died" in front.control.front_error
    assert "simulator2 died" in front.control.status()
    assert str(front.control.state()) == "FAULT"


def test_after_its_own_death_the_front_begins_anew(front, front_lab, servers):
    front.set(acq_nb_frames=ENDLESS)
    acq_id = front.control.acquire()
    lost = front.run(acq_id)
    wait_frames(front)
    with kept(front_lab, acq_id):
        servers.kill(CONTROL)
        servers.restart(CONTROL)
        rig = FrontRig(front.tango_host, front.control.dev_name())
        rig.defaults()

        with pytest.raises(tango.DevFailed):
            rig.proxy(lost.device.dev_name()).ping()
        _, error = timed(rig.control.prepareAcq)
    rig.control.resetAcq()

    assert "is busy with an acquisition of another client" in error
    assert rig.acquire().phase == "done"


def test_overlapping_runs_of_several_processes_are_kept_apart(front, tmp_path):
    front.set(acq_nb_frames=200, saving_enabled=True, saving_directory=str(tmp_path))
    runs = []
    for number in range(3):
        front.set(saving_prefix=f"run{number}")
        front.change({"acquisition.det.generator.gauss.peaks": [{"max": 20.0 * (number + 1)}]})
        runs.append(front.run(front.control.acquire()))
        front.wait_state("idle")

    assert [run.wait_ended() for run in runs] == ["done"] * 3
    for number, run in enumerate(runs):
        brightest = 20 * (number + 1)
        assert run.image(0).max() == brightest or run.image(192).max() == brightest
        with h5py.File(tmp_path / f"run{number}_master.h5") as file:
            frames = file["entry_0000/instrument/detector/data"]
            assert frames.shape[0] == 200
            assert frames[0].max() == brightest


def test_an_acquisition_of_the_conductor_is_seen_and_not_disturbed(front, front_lab):
    front_lab.wait_operational()
    front.acquire()
    triggers = {"acq.trigger_mode": "software", "acq.nb_frames_per_trigger": BURST}
    acq_id = front_lab.prepare(front_lab.acquisition({"acq.nb_frames": 2 * BURST, **triggers}))
    front_lab.start()
    front_lab.client.acquisition.trigger()
    wait_until(lambda: sum(front_lab.system.xferred()) > 10, "some frames", 10)
    seen = front.state
    took_s, error = timed(front.control.prepareAcq)
    front.control.stopAcq()
    front_lab.client.acquisition.trigger()
    front_lab.wait_end()
    counters = front_lab.counters(acq_id)

    assert seen == "foreign"
    assert took_s < HOLD_S
    assert str(acq_id) in error
    assert sum(one["nb_frames_source"] for one in counters) == 2 * BURST
    assert front.acquire().phase == "done"
    front_lab.acquire(front_lab.acquisition({"acq.nb_frames": 10}))


def test_preparing_and_starting_is_quick(front):
    front.acquire()
    times_s = []
    for _ in range(5):
        begun_s = time.monotonic()
        front.control.acquire()
        times_s.append(time.monotonic() - begun_s)
        wait_until(lambda: front.control.run_phase.name == "done", "the end", 10)

    assert json.loads(front.control.ledger_counts)["valid"] == 10
    assert min(times_s) < 0.5
