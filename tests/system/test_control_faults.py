"""The control dies or stands still during a run: receivers rest, and the next acquisition works.

It is the only part that all others ask. What receivers had flushed stays readable without it.
"""

import contextlib
import json
import os
import signal

import pytest
import tango
from blissdata import DataStore, ScanState

from client import Lima2, NotAvailableError
from client.validate import validate
from tango_servers.news import ABANDONED_S
from tests.system.fault_lab import (
    GUARD_S,
    SystemLab,
    assert_books,
    assert_master,
    flushed,
    id_of,
)
from tests.tango.devices import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated config_set")

ENDLESS, MANY, FEW = 0, 300, 60
REST_S = ABANDONED_S + GUARD_S
"""Receivers are at rest by then, whatever they were told to do."""
HELD_FROM = 24


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The servers, for all tests."""
    with SystemLab(tmp_path_factory.mktemp("control")) as lab:
        yield lab


@pytest.fixture
def lab(shared):
    """The system at rest; brought to rest afterwards."""
    shared.clear()
    yield shared
    control = shared.deployment.servers[0].instance
    if not shared.servers.running(control):
        shared.servers.restart(control)
    os.kill(shared.servers.pid(control), signal.SIGCONT)
    shared.clear()


@pytest.fixture
def control(lab):
    """Instance of the control server."""
    return lab.deployment.servers[0].instance


def receiver_states(lab):
    """What the receivers say themselves."""
    return [lab.front.proxy(name).acq_state.name for name in lab.deployment.receivers]


def received(lab):
    return [lab.front.proxy(name).nb_frames_xferred for name in lab.deployment.receivers]


def begin(lab, folder, nb_frames, **changes):
    """A run of which some frames are saved; its device, and the prefix of its files."""
    prefix = lab.order(folder, nb_frames, **changes)
    run = lab.begin()
    return run, prefix


def all_flushed(folder, prefix, nb_frames):
    """Whether so many frames can be read in files that may be written at present."""
    with contextlib.suppress(OSError, KeyError, RuntimeError):
        return len(flushed(folder, prefix)) >= nb_frames
    return False


@contextlib.contextmanager
def at_once(lab, control):
    """The control dies and is back before its receivers take it for silent.

    They stand still meanwhile, and go on when the block is left: a server needs seconds to start.
    """
    for receiver in range(2):
        lab.signal(receiver, signal.SIGSTOP)
    try:
        lab.servers.kill(control)
        lab.servers.restart(control)
        yield
    finally:
        for receiver in range(2):
            lab.signal(receiver, signal.SIGCONT)


def taken_for_silent(lab, run):
    """The receivers that took no more frames as nobody asked about the run."""
    told = f"run {id_of(run)}: its front is silent"
    logs = [lab.folder / "servers" / f"{lab.instance(n)}.log" for n in range(2)]
    return [log.stem for log in logs if told in log.read_text()]


@pytest.mark.parametrize("nb_frames", [ENDLESS, MANY], ids=["endless", "finite"])
def test_receivers_of_a_control_that_died_come_to_rest_with_readable_files(
    lab, control, tmp_path, nb_frames
):
    # The control dies well before the last frame, which comes well before it is taken for gone.
    run, prefix = begin(lab, tmp_path, nb_frames, expo_s=0.01)
    lab.wait_saving()
    acq_id, before = id_of(run), lab.control.frames_saved

    lab.servers.kill(control)

    wait_until(lambda: set(receiver_states(lab)) == {"idle"}, "rest", REST_S)
    files = sorted(tmp_path.glob(f"{prefix}_[01]_*.h5"))
    taken = sum(received(lab))
    wait_until(lambda: all_flushed(tmp_path, prefix, taken), "all frames", GUARD_S)
    frames = flushed(tmp_path, prefix)
    assert len(frames) >= before
    assert len(files) >= 4
    assert len(taken_for_silent(lab, run)) == (0 if nb_frames else 2)
    if nb_frames:
        assert sorted(frames) == list(range(nb_frames))
    lab.servers.restart(control)

    lab.quick(tmp_path)
    lima = Lima2(f"tango://{lab.front.tango_host}/{lab.deployment.control.name}")
    with pytest.raises(NotAvailableError):
        lima.run(acq_id).wait(5)
    index = tmp_path / f"{prefix}_master.h5"
    if index.exists():
        told = [str(one) for one in validate(index, pixels=False).anomalies]
        assert any("not final" in one for one in told)


def test_a_control_that_is_back_at_once_waits_for_its_receivers_and_says_for_whom(
    lab, control, tmp_path
):
    run, _ = begin(lab, tmp_path, ENDLESS)
    wait_until(lambda: lab.control.frames_received > 50, "some frames", GUARD_S)
    refusals = []

    def prepared():
        try:
            return lab.front.prepare()
        except tango.DevFailed as refused:
            # The status has the same, or what the receivers have been found to do since.
            refusals.append((refused.args[0].desc, lab.control.status()))
            return None

    with at_once(lab, control):
        lab.order(tmp_path, 10)
    following = wait_until(prepared, "the next run is prepared", REST_S)

    told = [one for one in refusals if id_of(run) in one[0]]
    assert told, refusals
    assert all("another client" in text for one in told for text in one)
    lab.control.startAcq()
    assert following.wait_ended(GUARD_S) == "done"


def test_the_scan_of_a_control_that_died_is_closed_by_the_next_one(lab, control, tmp_path):
    consumer = DataStore(lab.redis.url)
    since = consumer.get_last_scan_timetag()
    begin(lab, tmp_path, ENDLESS)
    _, key = consumer.get_next_scan(since=since, timeout=GUARD_S)
    stream = consumer.load_scan(key).streams["ledger_code"]
    wait_until(lambda: len(stream) > 20, "some frames", GUARD_S)

    lab.servers.kill(control)
    assert consumer.load_scan(key).state is ScanState.STARTED
    lab.servers.restart(control)

    wait_until(lambda: consumer.load_scan(key).state is ScanState.CLOSED, "its end", REST_S)
    scan = consumer.load_scan(key)
    assert scan.info["end_reason"] == "FAILURE"
    assert "ended before the run" in scan.info["verdict"]
    assert all(stream.is_sealed() for stream in scan.streams.values())
    wait_until(lambda: set(receiver_states(lab)) == {"idle"}, "rest", REST_S)
    lab.quick(tmp_path)


def test_a_control_that_is_back_need_not_wait_if_it_resets_all(lab, control, tmp_path):
    run, _ = begin(lab, tmp_path, ENDLESS)
    wait_until(lambda: lab.control.frames_received > 50, "some frames", GUARD_S)

    with at_once(lab, control):
        pass
    lab.control.resetAcq()

    wait_until(lambda: set(receiver_states(lab)) == {"idle"}, "rest", REST_S)
    assert taken_for_silent(lab, run) == []
    lab.quick(tmp_path)


@pytest.mark.parametrize("phase", ["prepared", "draining"])
def test_a_control_that_dies_in_another_phase_leaves_nothing_that_blocks(
    lab, control, tmp_path, phase
):
    draining = phase == "draining"
    prefix = lab.order(
        tmp_path,
        FEW,
        expo_s=0.001 if draining else 0.005,
        large=draining,
        held_from=HELD_FROM if draining else None,
    )
    run = lab.prepare()
    if draining:
        lab.control.startAcq()
        lab.wait_draining(run)

    lab.servers.kill(control)
    lab.open_gate(prefix)

    wait_until(lambda: set(receiver_states(lab)) <= {"idle", "prepared"}, "rest", REST_S)
    if draining:
        wait_until(lambda: all_flushed(tmp_path, prefix, FEW), "all frames", GUARD_S)
    lab.servers.restart(control)
    lab.quick(tmp_path)


def test_a_control_that_stands_still_for_a_while_goes_on_where_it_was(lab, control, tmp_path):
    run, prefix = begin(lab, tmp_path, MANY, expo_s=0.01)
    wait_until(lambda: lab.control.frames_received > 20, "some frames", GUARD_S)

    os.kill(lab.servers.pid(control), signal.SIGSTOP)
    wait_until(lambda: sum(received(lab)) > 200, "frames without it", GUARD_S)
    os.kill(lab.servers.pid(control), signal.SIGCONT)

    run.wait_ended(GUARD_S)
    assert run.phase == "done"
    assert_books(run, MANY)
    assert len(assert_master(tmp_path, prefix, run)) == MANY
    lab.quick(tmp_path)


def test_of_a_control_that_stood_still_for_long_the_run_ends_and_tells_what_is_missing(
    lab, control, tmp_path
):
    nb_frames = 4000
    run, prefix = begin(lab, tmp_path, nb_frames)
    wait_until(lambda: lab.control.frames_received > 50, "some frames", GUARD_S)

    os.kill(lab.servers.pid(control), signal.SIGSTOP)
    wait_until(lambda: set(receiver_states(lab)) == {"idle"}, "rest", REST_S)
    os.kill(lab.servers.pid(control), signal.SIGCONT)

    run.wait_ended(GUARD_S)
    counts = json.loads(run.device.ledger_counts)
    assert run.phase == "incomplete"
    assert "has not asked for 5 s" in run.device.verdict
    assert counts["receiver_lost"] > 0
    assert counts["valid"] == sum(received(lab))
    assert_books(run, nb_frames)
    assert len(assert_master(tmp_path, prefix, run)) == counts["valid"]
    lab.quick(tmp_path)
