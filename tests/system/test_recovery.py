"""A server that is killed without warning can be started again alone, and the system goes on."""

import contextlib

import h5py
import pytest
import tango
from lima2.client.services import ConnectionState

from lima2_core.data.frame import Validity
from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tests.system.lab import Lab, expected, saved_frames
from tests.tango.devices import IDLE, RUNNING, wait_until

INSTANCES = ["simulator_ctl", "simulator_rcv1", "simulator_rcv2"]


@pytest.fixture(scope="module")
def fragile_lab(tmp_path_factory):
    """A system of its own: its servers are killed."""
    folder = tmp_path_factory.mktemp("fragile")
    with (
        EmbeddedDatabase(folder, load_deployment("round_robin_2")) as database,
        Lab(folder, database.tango_host) as lab,
    ):
        yield lab


@pytest.fixture
def lab(fragile_lab):
    """All servers running and at rest at the beginning."""
    for instance in INSTANCES:
        if not fragile_lab.servers.running(instance):
            fragile_lab.servers.restart(instance)
    fragile_lab.wait_operational()
    fragile_lab.recover()
    return fragile_lab


def pids(lab):
    return [lab.servers.pid(instance) for instance in INSTANCES]


def test_a_receiver_that_dies_is_reported_the_others_finish_and_a_restart_heals(lab):
    before = pids(lab)
    lab.prepare(lab.acquisition({"acq.nb_frames": 0}))
    lab.start()
    wait_until(lambda: sum(lab.system.xferred()) > 20, "some frames", 20)

    lab.servers.kill("simulator_rcv2")
    lab.wait_failed(10)
    offline = lab.client.connection_state()
    lab.wait_end(10)
    survivor = lab.system.receivers[0]

    assert offline is ConnectionState.DEVICES_OFFLINE
    assert survivor.acq_state == IDLE
    assert survivor.nb_frames_xferred > 10

    lab.servers.restart("simulator_rcv2")
    lab.wait_operational()
    lab.client.acquisition.reset()
    for _ in range(2):
        lab.acquire(lab.acquisition({"acq.nb_frames": 20}))

    assert lab.system.xferred() == [10, 10]
    assert lab.frame(19).max() == expected(19)
    after = pids(lab)
    assert after[:2] == before[:2]
    assert after[2] != before[2]


def test_after_a_crash_all_flushed_frames_are_readable(lab, tmp_path):
    saving = lab.saving(tmp_path, {"saving.nb_frames_per_file": 1000})
    acq_id = lab.prepare(lab.acquisition({"acq.nb_frames": 0, "acq.expo_time": 2000}), saving)
    lab.start()
    # Files are flushed every 0.5 s, and frames counted as saved once they are.
    wait_until(lambda: lab.counters(acq_id)[1]["nb_frames_saved"] > 50, "flushed frames", 20)

    lab.servers.kill("simulator_rcv2")
    lab.wait_failed(10)
    # Its own end the conductor does not find: its master file waits for the dead receiver.
    survivor = lab.system.proxy(lab.system.processing_name(acq_id, 0))
    wait_until(lambda: survivor.is_finished, "the end of the other receiver", 10)
    received = lab.system.receivers[0].nb_frames_xferred

    frames, validity = saved_frames(tmp_path, 0)
    assert validity == [Validity.VALID] * received
    assert [frame.max() for frame in frames] == [expected(2 * n) for n in range(received)]
    frames, validity = saved_frames(tmp_path, 1)
    flushed = validity.count(Validity.VALID)
    assert flushed > 50
    assert set(validity[flushed:]) <= {Validity.CRASH}
    assert [frame.max() for frame in frames[:flushed]] == [
        expected(2 * n + 1) for n in range(flushed)
    ]

    lab.servers.restart("simulator_rcv2")
    lab.renew_conductor()
    lab.acquire(lab.acquisition({"acq.nb_frames": 20}))


@pytest.mark.parametrize("instance", INSTANCES)
def test_a_server_that_dies_at_rest_is_replaced(lab, instance):
    lab.acquire(lab.acquisition({"acq.nb_frames": 6}))

    lab.servers.kill(instance)
    wait_until(
        lambda: lab.client.connection_state() is ConnectionState.DEVICES_OFFLINE, "the loss", 10
    )
    lab.servers.restart(instance)
    lab.wait_operational()
    lab.client.acquisition.reset()
    for _ in range(2):
        lab.acquire(lab.acquisition({"acq.nb_frames": 20}))

    assert lab.system.xferred() == [10, 10]


def test_a_control_that_dies_while_frames_come_is_reported_and_replaced(lab):
    lab.prepare(lab.acquisition({"acq.nb_frames": 0}))
    lab.start()
    wait_until(lambda: sum(lab.system.xferred()) > 20, "some frames", 20)

    lab.servers.kill("simulator_ctl")
    wait_until(
        lambda: lab.client.connection_state() is ConnectionState.DEVICES_OFFLINE, "the loss", 10
    )
    lab.system.wait_receivers(IDLE, timeout_s=10)  # the conductor has stopped them
    lab.servers.restart("simulator_ctl")
    lab.wait_operational()
    lab.client.acquisition.reset()
    lab.acquire(lab.acquisition({"acq.nb_frames": 20}))

    assert lab.system.xferred() == [10, 10]


def test_a_receiver_that_is_away_is_named_when_the_next_acquisition_is_prepared(lab):
    lab.servers.kill("simulator_rcv1")

    with pytest.raises(Exception, match="id00/limareceiver/simulator1"):
        lab.prepare()

    lab.servers.restart("simulator_rcv1")
    lab.wait_operational()
    lab.acquire(lab.acquisition({"acq.nb_frames": 4}))


def test_the_processing_devices_of_the_dead_are_gone_after_its_restart(lab):
    acq_id = lab.acquire(lab.acquisition({"acq.nb_frames": 4}))
    name = lab.system.processing_name(acq_id, 1)

    lab.servers.kill("simulator_rcv2")
    lab.servers.restart("simulator_rcv2")

    listed = lab.system.database.get_device_class_list("lima2_tango/simulator_rcv2")
    assert not any("limaprocessing" in entry for entry in listed)
    with pytest.raises(tango.DevFailed):
        lab.system.proxy(name).ping()


def test_files_that_a_dead_receiver_left_are_no_obstacle_to_overwriting_them(lab, tmp_path):
    saving = lab.saving(tmp_path, {"saving.file_exists_policy": "overwrite"})
    lab.prepare(lab.acquisition({"acq.nb_frames": 0}), saving)
    lab.start()
    wait_until(lambda: sum(lab.system.xferred()) > 20, "some frames", 20)
    lab.servers.kill("simulator_rcv2")
    lab.wait_failed(10)
    others = (lab.system.control, lab.system.receivers[0])
    wait_until(
        lambda: all(device.acq_state != RUNNING for device in others),
        "the stop by the conductor, before another takes its place",
        10,
    )
    lab.servers.restart("simulator_rcv2")
    lab.renew_conductor()
    lab.client.acquisition.reset()

    lab.acquire(lab.acquisition({"acq.nb_frames": 10}), saving)

    with contextlib.closing(h5py.File(tmp_path / "lima2_master.h5")) as master:
        data = master["entry_0000/measurement/data"]
        assert [image.max() for image in data] == [expected(idx) for idx in range(10)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
