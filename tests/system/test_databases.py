"""Databases, servers and conductor as child processes, and what `lima2 register` writes."""

import contextlib
import os
import select
import signal
import socket
import sys

import psutil
import pytest
import tango

from lima2_core.errors import BusyError, NotAvailableError, ParamError, StateError
from tango_servers import register
from tango_servers.deployment import load_deployment
from tango_servers.local import mariadb
from tango_servers.local.conductor import Conductor
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.processes import ChildError, ChildProcess, free_port
from tango_servers.local.servers import ServerGroup

pytestmark = pytest.mark.system

CONTROL = "id00/limacontrol/simulator"
RECEIVERS = ["id00/limareceiver/simulator1", "id00/limareceiver/simulator2"]

# Has the classes of the deployments and does nothing.
STAND_IN = """
import sys
from tango.server import Device, run
names = ("LimaSimulatorControl", "LimaSimulatorReceiver")
run([type(name, (Device,), {}) for name in names], args=["lima2_tango", *sys.argv[1:]])
"""


def stand_in(server):
    return (sys.executable, "-c", STAND_IN)


def listening_addresses(pid):
    found = psutil.Process(pid).net_connections(kind="tcp")
    return {item.laddr.ip for item in found if item.status == psutil.CONN_LISTEN}


def children():
    return psutil.Process().children(recursive=True)


def has_ended(process):
    with contextlib.suppress(psutil.NoSuchProcess):  # init may still have to collect it
        return process.status() == psutil.STATUS_ZOMBIE
    return True


@pytest.fixture(params=["NosqlTangoDB", "MariaDB"])
def database(request, tmp_path):
    """An empty Tango database of either kind."""
    if request.param == "MariaDB" and not mariadb.available():
        pytest.skip(f"the Tango database on MariaDB lacks {', '.join(mariadb.missing())}")
    kind = {"NosqlTangoDB": EmbeddedDatabase, "MariaDB": mariadb.MariaDbDatabase}[request.param]
    with kind(tmp_path) as running:
        yield running


@pytest.fixture
def run_register(database, capsys):
    """Run ``lima2 register`` on the database; gives exit status and what it said."""

    def run(*arguments):
        status = register.main([*arguments, "--tango-host", database.tango_host])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def test_a_registered_deployment_reads_back(database, run_register):
    status, said = run_register("round_robin_2")

    read = register.open_database(database.tango_host)
    assert status == 0, said
    assert "New device id00/limacontrol/simulator of class LimaSimulatorControl" in said
    assert "    lima2_tango simulator_rcv2" in said
    for number, name in enumerate([CONTROL, *RECEIVERS]):
        instance = ("simulator_ctl", "simulator_rcv1", "simulator_rcv2")[number]
        listed = list(read.get_device_class_list(f"lima2_tango/{instance}"))
        role = "Receiver" if number else "Control"
        assert listed[listed.index(name) + 1] == f"LimaSimulator{role}"
        assert read.get_device_info(name).ds_full_name == f"lima2_tango/{instance}"
    properties = read.get_device_property(CONTROL, ["receivers", "receiver_topology"])
    assert list(properties["receivers"]) == RECEIVERS
    assert list(properties["receiver_topology"]) == ["round_robin"]


def test_a_second_registration_finds_all_there_and_writes_nothing(run_register):
    run_register("round_robin_2")

    status, said = run_register("round_robin_2")

    assert status == 0, said
    assert "'round_robin_2' is already in the database" in said
    assert said.count("Already there: device") == 3
    assert "New " not in said


def test_a_dry_run_writes_nothing(database, run_register):
    status, said = run_register("single", "--dry-run")

    read = register.open_database(database.tango_host)
    assert status == 0, said
    assert "Nothing was written; 4 changes are due" in said
    assert list(read.get_device_class_list("lima2_tango/simulator_ctl")) == []


def test_a_property_that_differs_is_changed_and_its_old_value_named(database, run_register):
    run_register("round_robin_2")

    status, said = run_register("single")

    read = register.open_database(database.tango_host)
    assert status == 0, said
    changed = f"Changed property receiver_topology of {CONTROL} = single instead of round_robin."
    assert changed in said
    assert list(read.get_device_property(CONTROL, "receivers")["receivers"]) == RECEIVERS[:1]


def test_devices_of_another_server_are_taken_over_only_by_force(database, run_register):
    run_register("round_robin_2")
    read = register.open_database(database.tango_host)
    read.put_device_property(RECEIVERS[0], {"site": ["kept"]})

    refused, reason = run_register("all_in_one")
    owner_before = read.get_device_info(CONTROL).ds_full_name
    forced, said = run_register("all_in_one", "--force")

    assert refused == 1
    assert f"device {CONTROL} of class LimaSimulatorControl is in server" in reason
    assert owner_before == "lima2_tango/simulator_ctl"
    assert forced == 0, said
    for name in (CONTROL, *RECEIVERS):
        assert read.get_device_info(name).ds_full_name == "lima2_tango/lima2"
    assert list(read.get_device_property(RECEIVERS[0], "site")["site"]) == ["kept"]
    assert list(read.get_device_property(CONTROL, "receivers")["receivers"]) == RECEIVERS


def test_a_deployment_goes_into_another_domain_beside_the_first(database, run_register):
    run_register("single")

    status, said = run_register("single", "--domain", "id00=id31")

    read = register.open_database(database.tango_host)
    names = read.get_device_property("id31/limacontrol/simulator", "receivers")["receivers"]
    assert status == 0, said
    assert list(names) == ["id31/limareceiver/simulator1"]
    assert f"Left alone: device {CONTROL}" in said


@pytest.mark.parametrize(
    ("tango_host", "reason"),
    [("127.0.0.1:1", "No Tango database answers at 127.0.0.1:1"), ("nowhere", "form HOST:PORT")],
)
def test_a_database_out_of_reach_is_named_with_what_to_do(capsys, tango_host, reason):
    status = register.main(["single", "--tango-host", tango_host])

    assert status == 1
    assert reason in capsys.readouterr().err


def test_the_embedded_database_begins_with_its_deployment_on_loopback_only(tmp_path):
    with EmbeddedDatabase(tmp_path, load_deployment("reader_2")) as database:
        read = register.open_database(database.tango_host)

        assert read.get_class_for_device("id00/limacontrol/reader") == "LimaReaderControl"
        assert listening_addresses(database.pid) == {"127.0.0.1"}
        with pytest.raises(BusyError, match=r"answers at .* already"):
            EmbeddedDatabase(tmp_path / "other", port=database.port).start()


@pytest.mark.skipif(not mariadb.available(), reason="; ".join(mariadb.missing()))
def test_the_database_on_mariadb_keeps_its_content_over_a_restart(tmp_path, capsys):
    database = mariadb.MariaDbDatabase(tmp_path)
    with database:
        register.main(["single", "--tango-host", database.tango_host])
        servers = [psutil.Process(child.pid) for child in database._children]
        ours = [*servers, *(child for one in servers for child in one.children(recursive=True))]
        addresses = {address for child in ours for address in listening_addresses(child.pid)}
    with database:
        read = register.open_database(database.tango_host)
        kept = read.get_class_for_device(CONTROL)

    assert kept == "LimaSimulatorControl"
    assert len(servers) == 2
    assert addresses == {"127.0.0.1"}
    assert all(has_ended(child) for child in ours)


def test_a_database_that_is_not_installed_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(mariadb, "SERVER_FOLDERS", (tmp_path,))

    assert not mariadb.available()
    with pytest.raises(NotAvailableError, match=r"DataBaseds .*tango-db"):
        mariadb.MariaDbDatabase(tmp_path).start()


# -- servers -------------------------------------------------------------------------------------


@pytest.fixture
def deployment():
    return load_deployment("round_robin_2")


@pytest.fixture
def tango_host(tmp_path, deployment):
    with EmbeddedDatabase(tmp_path, deployment) as database:
        yield database.tango_host


def stand_ins():
    return [child for child in children() if words_of(child)[:3:2] == [sys.executable, STAND_IN]]


def words_of(process):
    with contextlib.suppress(psutil.NoSuchProcess):  # those of other tests come and go
        return process.cmdline()
    return []


def ping(tango_host, name):
    return tango.DeviceProxy(f"tango://{tango_host}/{name}").ping()


@pytest.mark.parametrize("mpi", [False, True], ids=["plain", "mpi"])
def test_a_group_is_ready_when_its_start_returns_and_gone_when_its_stop_does(
    tmp_path, tango_host, deployment, mpi
):
    group = ServerGroup(tmp_path / "logs", tango_host, deployment, program=stand_in, mpi=mpi)
    with group:
        for name in (CONTROL, *RECEIVERS):
            ping(tango_host, name)
        inside = stand_ins()

        killed = group.stop(timeout_s=20)

    assert killed == ()  # all listened
    assert len(inside) == 3
    assert all(has_ended(child) for child in inside)


def test_a_killed_server_is_started_again_alone(tmp_path, tango_host, deployment):
    with ServerGroup(tmp_path / "logs", tango_host, deployment, program=stand_in) as group:
        before = {server.instance: group.pid(server.instance) for server in deployment.servers}

        group.kill("simulator_rcv1")
        states = [group.running(instance) for instance in before]
        with pytest.raises(tango.DevFailed):
            ping(tango_host, RECEIVERS[0])
        group.restart("simulator_rcv1")

        ping(tango_host, RECEIVERS[0])
        assert states == [True, False, True]
        changed = [instance for instance in before if group.pid(instance) != before[instance]]
        assert changed == ["simulator_rcv1"]
        assert listening_addresses(group.pid("simulator_rcv1")) == {"127.0.0.1"}


def test_a_server_that_ends_at_start_is_named_with_its_log_and_takes_the_others_along(
    tmp_path, tango_host, deployment
):
    def program(server):
        broken = server.instance == "simulator_rcv2"
        return (sys.executable, "-c", "raise SystemExit('no licence')" if broken else STAND_IN)

    with pytest.raises(ChildError, match=r"simulator_rcv2 ended by itself \(status 1\)") as failure:
        ServerGroup(tmp_path / "logs", tango_host, deployment, program=program).start()

    assert "no licence" in str(failure.value)
    assert stand_ins() == []


def test_a_group_refuses_what_it_has_not(tmp_path, deployment):
    plain = ServerGroup(tmp_path, "127.0.0.1:1", deployment)
    mpi = ServerGroup(tmp_path, "127.0.0.1:1", deployment, mpi=True)

    with pytest.raises(ParamError, match="the instances are simulator_ctl"):
        plain.running("nothing")
    with pytest.raises(StateError, match="was not started"):
        plain.kill("simulator_ctl")
    with pytest.raises(StateError, match="one MPI job"):
        mpi.kill("simulator_ctl")


def test_the_conductor_is_ready_when_its_start_returns(tmp_path, tango_host, deployment):
    with Conductor.of_deployment(tmp_path, tango_host, deployment) as conductor:
        host, port = conductor.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5):
            assert conductor.log_file.exists()


def test_a_conductor_without_its_devices_says_why_it_ended(tmp_path, tango_host):
    conductor = Conductor(
        tmp_path, tango_host, topology="single", control="id00/no/control", receivers=["id00/no/r"]
    )

    with pytest.raises(ChildError, match=r"(?s)the conductor ended by itself.*id00/no/control"):
        conductor.start()


# -- child processes -----------------------------------------------------------------------------

IGNORE_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
# Prints its number in a group of its own, as mpiexec does with its ranks.
WITH_GRANDCHILD = """
import os, subprocess, sys
nap = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, process_group=0)
print(nap.pid, flush=True)
sys.stdin = os.fdopen(os.pipe()[0])
input()
"""


@pytest.fixture
def make_child(tmp_path):
    """Start a Python child that runs a text, and is ready once it has written to its log."""
    with contextlib.ExitStack() as stack:

        def make(text, name="nap"):
            log = tmp_path / f"{name}.log"
            child = ChildProcess(name, (sys.executable, "-c", text), log_file=log)
            stack.enter_context(child)
            child.wait_ready(lambda: log.stat().st_size > 0, timeout_s=20)
            return child

        yield make


def test_a_child_ends_when_asked(make_child):
    child = make_child("import signal; print('here', flush=True); signal.pause()")

    assert child.alive
    assert child.stop(timeout_s=10)
    assert child.returncode == -signal.SIGTERM
    assert not psutil.pid_exists(child.pid)


def test_a_child_that_does_not_listen_is_killed(make_child):
    child = make_child(f"{IGNORE_SIGTERM}; print('here', flush=True); signal.pause()")

    assert not child.stop(timeout_s=0.2)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_the_children_of_a_child_go_with_it_even_from_another_group(make_child, end):
    child = make_child(WITH_GRANDCHILD)
    grandchild = psutil.Process(int(child.log_file.read_text()))
    assert os.getpgid(grandchild.pid) != child.pid

    getattr(child, end)()

    assert has_ended(grandchild)


def test_a_child_that_is_never_ready_is_stopped_and_shows_its_log(tmp_path):
    text = "import signal; print('waiting for the beam', flush=True); signal.pause()"
    log = tmp_path / "log"
    child = ChildProcess("nap", (sys.executable, "-c", text), log_file=log)
    child.start()

    # The log counts as the first question, so that its content is certain.
    child.wait_ready(lambda: log.stat().st_size > 0, timeout_s=20)
    with pytest.raises(BusyError, match=r"(?s)nap is not ready after 0.1 s.*waiting for the beam"):
        child.wait_ready(lambda: False, timeout_s=0.1)
    assert not child.alive


def test_a_program_that_is_nowhere_is_named(tmp_path):
    with pytest.raises(NotAvailableError, match="no program 'no-such-program'"):
        ChildProcess("x", ("no-such-program",), log_file=tmp_path / "log").start()


def test_a_child_goes_when_its_owner_is_killed(make_child, tmp_path):
    owner = make_child(
        "import signal, sys; from pathlib import Path;"
        "from tango_servers.local.processes import ChildProcess;"
        "child = ChildProcess('nap', (sys.executable, '-c', 'import signal; signal.pause()'),"
        f" log_file=Path({str(tmp_path / 'inner')!r}));"
        "child.start(); print(child.pid, flush=True); signal.pause()",
        name="owner",
    )
    orphan = int(owner.log_file.read_text())
    # In a session of its own, so only the kernel can end it.
    assert os.getsid(orphan) != owner.pid

    ends = os.pidfd_open(orphan)  # is readable as soon as the process has ended
    os.kill(owner.pid, signal.SIGKILL)

    assert owner.wait(10)
    assert select.select([ends], [], [], 10)[0] == [ends]
    os.close(ends)


def test_a_free_port_can_be_bound_and_is_not_one_the_system_hands_out():
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as limits:
        lowest = int(limits.read().split()[0])

    port = free_port()

    assert port < lowest
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", port))
