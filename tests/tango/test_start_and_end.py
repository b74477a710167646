"""The executable: options, what the database holds when it answers, how it ends."""

import json
import os
import signal
import subprocess
import time

import pytest
import tango

from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.processes import ChildProcess, find_program
from tango_servers.local.servers import ServerGroup
from tests.tango.devices import IDLE, PATIENCE_S, System, wait_until

CONTROL = "id00/limacontrol/simulator"
RECEIVERS = ["id00/limareceiver/simulator1", "id00/limareceiver/simulator2"]
PIPELINES = ["LimaProcessingLegacy", "LimaProcessingFailing"]
pytestmark = pytest.mark.timeout(100)  # servers are started in the tests themselves

READY_S = 3.0
END_S = 1.0
TRIALS = 6
"""A computer that others use may stand still: what is fast is so in one of several trials."""


@pytest.fixture
def deployment():
    return load_deployment("round_robin_2")


@pytest.fixture
def database(tmp_path, deployment):
    """A fresh database: what an earlier server wrote is not in it."""
    with EmbeddedDatabase(tmp_path, deployment) as running:
        yield running


@pytest.fixture
def launch(tmp_path, database):
    """Start ``lima2_tango`` with arguments; gives the process."""
    started = []

    def start(*arguments):
        child = ChildProcess(
            "lima2_tango",
            ("lima2_tango", *arguments),
            log_file=tmp_path / "output.log",
            environ={"TANGO_HOST": database.tango_host, "ORBendPoint": "giop:tcp:127.0.0.1:"},
        )
        child.start()
        started.append(child)
        return child

    yield start
    for child in started:
        child.stop()


def busyness():
    """By how much the others on this computer slow us down; all limits are those of an idle one."""
    return max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def answers(tango_host, device):
    try:
        tango.DeviceProxy(f"tango://{tango_host}/{device}").ping()
    except tango.DevFailed:
        return False
    return True


def schema_of(tango_host, class_name, attribute):
    found = tango.Database(*tango_host.split(":")).get_class_attribute_property(
        class_name, attribute
    )
    return json.loads(found[attribute]["schema"][0])


@pytest.mark.parametrize(
    ("instance", "device"), [("simulator_ctl", CONTROL), ("simulator_rcv1", RECEIVERS[0])]
)
def test_schemas_and_versions_are_in_the_database_as_soon_as_the_device_answers(
    launch, database, instance, device
):
    began_s = time.monotonic()
    server = launch(instance)
    wait_until(lambda: answers(database.tango_host, device), "an answer")
    took_s = time.monotonic() - began_s

    read = tango.Database(*database.tango_host.split(":"))
    own = read.get_device_info(device).class_name
    assert "properties" in schema_of(database.tango_host, own, "acq_params")
    for pipeline in PIPELINES:
        schema = schema_of(database.tango_host, pipeline, "proc_params")
        assert schema["properties"]["class_name"]["default"] == pipeline
        assert list(read.get_class_property(pipeline, "Version")["Version"]) == ["core-1.2.0"]
    admin = f"dserver/lima2_tango/{instance}"
    wait_until(lambda: answers(database.tango_host, admin), "an answer of the admin device")
    for _ in range(TRIALS):
        if took_s < READY_S * busyness():
            break
        server.stop()
        began_s = time.monotonic()
        server = launch(instance)
        wait_until(lambda: answers(database.tango_host, device), "an answer")
        took_s = time.monotonic() - began_s
    assert took_s < READY_S * busyness()


@pytest.mark.parametrize("first", ["options", "instance"])
def test_log_options_stand_before_or_after_the_instance(launch, database, tmp_path, first):
    folder = tmp_path / "logs"
    folder.mkdir()
    options = ("--log-level", "trace", "--log-file-path", str(folder))
    options = (*options, "--log-file-filename", "rcv1.%N.log")
    arguments = (*options, "simulator_rcv1") if first == "options" else ("simulator_rcv1", *options)

    launch(*arguments)
    wait_until(lambda: answers(database.tango_host, RECEIVERS[0]), "an answer")

    level = tango.DeviceProxy(f"tango://{database.tango_host}/{RECEIVERS[0]}").log_level
    assert level.name == "trace"
    # It is made with the first record, which may come after the first answer.
    wait_until(lambda: [path.name for path in folder.iterdir()] == ["rcv1.0.log"], "the file")
    log = folder / "rcv1.0.log"
    wait_until(lambda: "serving lima2_tango/simulator_rcv1" in log.read_text(), "a line in the log")


def test_options_of_tango_are_passed_on(launch, database):
    launch("simulator_rcv1", "-v1")

    wait_until(lambda: answers(database.tango_host, RECEIVERS[0]), "an answer")


@pytest.mark.parametrize(
    ("arguments", "tango_host", "status", "sentence"),
    [
        (["nothing"], None, 1, "declares no device for lima2_tango/nothing"),
        (["simulator_ctl"], "127.0.0.1:1", 1, "Tango database 127.0.0.1:1 does not answer"),
        (["--log-level", "loud", "simulator_ctl"], None, 2, "invalid choice: 'loud'"),
        ([], None, 2, "required: instance"),
    ],
)
def test_what_cannot_be_served_is_said_with_what_to_do(
    database, arguments, tango_host, status, sentence
):
    done = subprocess.run(
        [find_program("lima2_tango"), *arguments],
        env={**os.environ, "TANGO_HOST": tango_host or database.tango_host},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == status
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("device", "name", "values", "sentence"),
    [
        (
            CONTROL,
            "receiver_topology",
            ["ring"],
            "properties.receiver_topology: 'ring' is unknown; choose single, round_robin or dynam",
        ),
        (CONTROL, "rows", ["16", "32"], "properties.rows: ['16', '32'] are 2 texts"),
        (RECEIVERS[0], "nb_threads", ["many"], "properties.nb_threads: 'many' is no whole number"),
        (RECEIVERS[0], "memory_limit", ["-5"], "properties.memory_limit: -5 is not possible"),
    ],
)
def test_a_server_with_a_wrong_property_ends_and_names_it(
    launch, database, tmp_path, device, name, values, sentence
):
    tango.Database(*database.tango_host.split(":")).put_device_property(device, {name: values})

    server = launch("simulator_ctl" if device == CONTROL else "simulator_rcv1")

    assert server.wait(60)
    told = (tmp_path / "output.log").read_text()
    assert f"lima2_tango: {device} cannot be set up: {sentence}" in told
    assert "Traceback" not in told


def test_the_help_and_the_version_need_no_database():
    help_text = subprocess.run(
        [find_program("lima2_tango"), "--help"], capture_output=True, text=True, check=True
    ).stdout

    for option in ("--log-level", "--log-file-path", "--log-file-filename", "instance"):
        assert option in help_text


@pytest.mark.parametrize("mpi", [False, True], ids=["plain", "mpi"])
def test_a_system_answers_within_3_s_and_is_gone_1_s_after_sigterm(
    tmp_path, database, deployment, mpi
):
    for _ in range(TRIALS):
        busy = busyness()
        began_s = time.monotonic()
        with ServerGroup(tmp_path / "logs", database.tango_host, deployment, mpi=mpi) as group:
            ready_s = time.monotonic() - began_s
            system = System(database.tango_host, CONTROL, RECEIVERS, PATIENCE_S)
            ranks = [receiver.recv_rank for receiver in system.receivers]
            run = system.acquire(system.acquisition({"acq.nb_frames": 6}))
            counts = system.xferred()
            run.close()

            killed = group.stop(END_S * busy)

        assert ranks == [0, 1]
        assert counts == [3, 3]
        if ready_s < READY_S * busy and not killed:
            break

    assert ready_s < READY_S * busy
    assert killed == ()


def test_a_server_that_is_acquiring_and_saving_ends_as_fast_and_leaves_readable_files(
    tmp_path, database, deployment
):
    import h5py
    import hdf5plugin  # noqa: F401  the filters of the frames

    for trial in range(TRIALS):
        folder = tmp_path / str(trial)
        folder.mkdir()
        with ServerGroup(tmp_path / "logs", database.tango_host, deployment) as group:
            system = System(database.tango_host, CONTROL, RECEIVERS, PATIENCE_S)
            saving = {"saving.enabled": True, "saving.base_path": str(folder)}
            run = system.prepare(
                system.acquisition({"acq.nb_frames": 0}), system.processing(changes=saving)
            )
            system.start()
            wait_until(
                lambda run=run: min(one["nb_frames_saved"] for one in run.counters()) > 60,
                "frames for two files",
            )
            saved = [one["nb_frames_saved"] for one in run.counters()]
            run.close()

            killed = group.stop(END_S)

        if not killed:
            break

    assert killed == ()
    for receiver in range(2):
        frames = []
        for path in sorted(folder.glob(f"lima2_{receiver}_*.h5")):
            with h5py.File(path, "r") as file:
                frames += [image.max() for image in file["entry_0000/measurement/data"]]
        assert len(frames) >= saved[receiver]
        period = [100, 120] if receiver == 0 else [110, 130]
        assert frames == (period * len(frames))[: len(frames)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_processing_devices_of_an_earlier_life_are_gone_after_a_restart(
    tmp_path, database, deployment, how
):
    with ServerGroup(tmp_path / "logs", database.tango_host, deployment) as group:
        system = System(database.tango_host, CONTROL, RECEIVERS, PATIENCE_S)
        old = system.acquire(system.acquisition({"acq.nb_frames": 4}))
        old.close()

        for server in deployment.servers:
            os.kill(group.pid(server.instance), how)
        wait_until(
            lambda: not any(group.running(server.instance) for server in deployment.servers),
            "the end of the servers",
        )
        left = list(system.database.get_device_class_list("lima2_tango/simulator_rcv1"))
        group.start()

        listed = list(system.database.get_device_class_list("lima2_tango/simulator_rcv1"))
        system = System(database.tango_host, CONTROL, RECEIVERS, PATIENCE_S)
        assert any(old.acq_id in name for name in left)
        assert not any("limaprocessing" in name for name in listed)
        assert not answers(database.tango_host, system.processing_name(old.acq_id, 0))
        assert system.states() == [IDLE, IDLE, IDLE]
        assert system.receivers[0].pipelines in (None, ())
        run = system.acquire(system.acquisition({"acq.nb_frames": 4}))
        assert system.xferred() == [2, 2]
        run.close()
