"""The back-end for real detectors drives the virtual server of the detector's makers.

The server is not part of the suite: the environment variable LIMA2_JUNGFRAU_SERVER names its
executable (docs/how-to/connect-a-jungfrau.md tells how it is built).
"""

import importlib.util
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from camera_plugins.jungfrau._sdk import Step
from camera_plugins.jungfrau.backend import Setup
from camera_plugins.jungfrau.installation import Installation
from camera_plugins.jungfrau.params import JungfrauParams
from camera_plugins.jungfrau.slsdet_backend import ANSWER_S, SlsdetBackend
from camera_plugins.jungfrau.slsdet_link import DetectorLink
from camera_plugins.jungfrau.wire import MODULE_ROWS, header_of
from lima2_core.errors import CameraError
from lima2_core.net import Lost, PortOptions
from lima2_core.testing.doubles import eventually
from tests.integration.packets import HOST, Link

SERVER = os.environ.get("LIMA2_JUNGFRAU_SERVER", "")
MODULES = 2
STARTS_S = 30.0
FIRST = 1 + (7 << 24)

pytestmark = [
    pytest.mark.skipif(
        not SERVER, reason="LIMA2_JUNGFRAU_SERVER does not name a virtual JUNGFRAU server"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("slsdet") is None,
        reason='slsdet is not installed: pip install "lima2-suite[jungfrau]"',
    ),
]


def free_pair():
    """A free port whose successor is free too: servers for control, and for stopping."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind((HOST, 0))
            port = one.getsockname()[1]
            try:
                two.bind((HOST, port + 1))
            except (OSError, OverflowError):
                continue
            return port


def listens(port):
    """Whether a server is there; it is not connected, as the virtual one serves one at a time."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    ports = {line.split()[1].split(":")[1] for line in lines if line.split()[3] == "0A"}
    return f"{port:04X}" in ports


def wait_until(predicate, timeout_s):
    assert eventually(predicate, timeout_s)


@pytest.fixture(scope="module")
def control_ports(tmp_path_factory):
    """Two virtual modules."""
    path = Path(SERVER).resolve()
    ports = [free_pair() for _ in range(MODULES)]
    with open(tmp_path_factory.mktemp("servers") / "log", "wb") as log:
        servers = [
            subprocess.Popen(
                [str(path), "-p", str(port)],
                cwd=path.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,  # the server for stopping is a child of it
            )
            for port in ports
        ]
    try:
        wait_until(lambda: all(listens(port + n) for port in ports for n in (0, 1)), STARTS_S)
        yield ports
    finally:
        for server in servers:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(10)


@pytest.fixture(scope="module")
def own_name():
    """What slsdet keeps in shared memory must not meet that of others."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SLSDETNAME", f"lima2test{os.getpid()}")
    yield
    link = DetectorLink()
    link.run([Step("forget")], "is being forgotten", limit_s=10)
    link.close()
    patch.undo()


@pytest.fixture
def make_backend(control_ports, own_name):
    backends = []

    def make(modules=1, interfaces=1, **others):
        ways = [
            f"{HOST} aa:bb:cc:00:00:{port:02x} aa:bb:cc:11:11:11"
            for port in range(modules * interfaces)
        ]
        properties = {
            "backend": "slsdet",
            "modules": str(modules),
            "interfaces": str(interfaces),
            "hostnames": ",".join(f"{HOST}:{port}" for port in control_ports[:modules]),
            "module_network": ",".join(ways),
            **others,
        }
        backends.append(SlsdetBackend(Installation.of(properties)))
        return backends[-1]

    yield make
    for backend in backends:
        backend.stop()
        backend.close()


@pytest.fixture
def make_link():
    links = []

    def make(modules=1, interfaces=1, rows=MODULE_ROWS):
        options = PortOptions(drain_s=0.1, frame_timeout_s=0.5)
        links.append(Link(modules, interfaces, rows, slots=56, depth=48, options=options))
        return links[-1]

    yield make
    for link in links:
        link.close()


def params_of(nb_frames, acq=None, **det):
    times = {"expo_time": 1000, "latency_time": 9000, "nb_frames": nb_frames}
    return JungfrauParams.from_tree(
        {"acq": {**times, **(acq or {})}, "det": {"power_chips": True, **det}}
    )


def prepare(backend, params, *links, first=FIRST):
    """Prepare, again as long as the detector asks for more time."""
    setup = Setup(params, first, tuple(link.addresses for link in links))
    for _ in range(10):
        before_s = time.monotonic()
        try:
            return backend.prepare(setup)
        except CameraError as error:
            assert time.monotonic() - before_s < ANSWER_S + 0.5
            if "try again in a few seconds" not in error.message:
                raise
    raise AssertionError("the detector does not get ready")


def expected_image(rows):
    """What a virtual module sends: its docs and contract 06, section 5."""
    row = np.arange(MODULE_ROWS)[:, np.newaxis]
    gain = np.repeat([0, 1, 3], [300, 300, 424])
    image = (row // 4 + 1 + (gain << 14)).astype(np.uint16)
    begin = (MODULE_ROWS - rows) // 2
    return image[begin : begin + rows]


def acquire(backend, links, params, first=FIRST):
    """One whole acquisition: what came to each of ``links``."""
    prepare(backend, params, *links, first=first)
    for number, link in enumerate(links):
        link.receiver.start(
            first + number,
            stride=len(links),
            count=len(range(number, params.acq.nb_frames, len(links))),
        )
    backend.start()
    wait_until(lambda: backend.nb_exposed() == params.acq.nb_frames, 30.0)
    return [link.take_all(patience_s=0.3) for link in links]


def check_pictures(link, frames):
    picture = expected_image(link.rows)
    for frame in frames:
        assert not isinstance(frame, Lost)
        assert frame.complete
        for module in link.image(frame):
            assert np.array_equal(module, picture)


def numbers(frames):
    return [frame.number for frame in frames]


def places(frame):
    """(row, column) of each port."""
    headers = [header_of(raw) for raw in frame.ports["header"]]
    return [(int(header["row"]), int(header["column"])) for header in headers]


def test_chips_that_are_off_are_not_switched_on_unasked(make_backend, make_link):
    backend, link = make_backend(modules=MODULES), make_link(modules=MODULES)

    with pytest.raises(CameraError, match=r"chips of module 0, 1 are off; set det\.power_chips"):
        prepare(backend, params_of(4, power_chips=False), link)
    prepare(backend, params_of(4), link)
    prepare(backend, params_of(4, power_chips=False), link)


@pytest.mark.parametrize("interfaces", [1, 2])
def test_every_frame_comes_whole_over_one_and_two_interfaces(make_backend, make_link, interfaces):
    backend, link = make_backend(interfaces=interfaces), make_link(interfaces=interfaces)

    (frames,) = acquire(backend, [link], params_of(20))

    assert numbers(frames) == list(range(FIRST, FIRST + 20))
    check_pictures(link, frames)
    assert places(frames[0]) == [(port, 0) for port in range(interfaces)]
    assert backend.model == "JUNGFRAU 0.5M (virtual)"
    readings = backend.readings()
    assert (readings["temperature"], readings["temp_event"]) == (0, False)
    assert readings["detector_state"] == "idle"


def test_acquisitions_have_numbers_of_their_own_and_what_is_set_stays(make_backend, make_link):
    backend, link = make_backend(), make_link()
    acquire(backend, [link], params_of(3))
    before_s = time.monotonic()
    prepare(backend, params_of(3), link)
    took_s = time.monotonic() - before_s

    second = 1 + (3 << 40)
    (frames,) = acquire(backend, [link], params_of(3), first=second)

    assert numbers(frames) == [second, second + 1, second + 2]
    assert took_s < 0.8  # an address that is set anew costs a second


@pytest.mark.parametrize("interfaces", [1, 2])
def test_a_part_of_the_rows(make_backend, make_link, interfaces):
    backend, link = make_backend(interfaces=interfaces), make_link(interfaces=interfaces, rows=256)

    (frames,) = acquire(backend, [link], params_of(4, readout_rows=256))

    assert numbers(frames) == list(range(FIRST, FIRST + 4))
    check_pictures(link, frames)


@pytest.mark.parametrize(("column", "interfaces"), [("2", 1), ("2", 2), ("1", 2)])
def test_two_modules_are_where_the_installation_says(make_backend, make_link, column, interfaces):
    backend = make_backend(modules=2, interfaces=interfaces, modules_per_column=column)
    link = make_link(modules=2, interfaces=interfaces)

    (frames,) = acquire(backend, [link], params_of(6))

    assert numbers(frames) == list(range(FIRST, FIRST + 6))
    check_pictures(link, frames)
    site = Installation.of(
        {"modules": "2", "interfaces": str(interfaces), "modules_per_column": column}
    )
    assert places(frames[0]) == [
        site.place(module, port) for module in range(2) for port in range(interfaces)
    ]


@pytest.mark.parametrize("interfaces", [1, 2])
def test_receivers_in_turns(make_backend, make_link, interfaces):
    backend = make_backend(modules=2, interfaces=interfaces)
    links = [make_link(modules=2, interfaces=interfaces) for _ in range(2)]

    taken = acquire(backend, links, params_of(9))

    assert [numbers(frames) for frames in taken] == [
        list(range(FIRST, FIRST + 9, 2)),
        list(range(FIRST + 1, FIRST + 9, 2)),
    ]
    for link, frames in zip(links, taken, strict=True):
        check_pictures(link, frames)
    (alone,) = acquire(backend, links[:1], params_of(3), first=FIRST + 100)
    assert numbers(alone) == [FIRST + 100, FIRST + 101, FIRST + 102]


def test_a_stop_ends_it_and_nothing_comes_afterwards(make_backend, make_link):
    backend, link = make_backend(), make_link()
    prepare(backend, params_of(0), link)
    link.receiver.start(FIRST)
    backend.start()
    wait_until(lambda: backend.nb_exposed() >= 5, 10.0)

    counted = backend.stop()

    frames = link.take_all(patience_s=0.3)
    assert counted is None  # the virtual server does not tell
    assert numbers(frames) == list(range(FIRST, FIRST + len(frames)))
    check_pictures(link, frames)
    assert 5 <= len(frames) < 200
    assert backend.stop() is None
    (again,) = acquire(backend, [link], params_of(3), first=FIRST + 1000)
    assert numbers(again) == [FIRST + 1000, FIRST + 1001, FIRST + 1002]


def test_a_detector_that_runs_is_neither_started_nor_prepared_again(make_backend, make_link):
    backend, link = make_backend(), make_link()
    prepare(backend, params_of(0), link)
    backend.start()
    other = make_backend()

    with pytest.raises(CameraError, match=r"is running, and not for this control"):
        prepare(other, params_of(5), link)
    with pytest.raises(CameraError, match="has been started"):
        backend.start()

    other.stop()
    assert backend.readings()["detector_state"] in ("idle", "stopped")


def test_frames_of_triggers(make_backend, make_link):
    backend, link = make_backend(), make_link()
    acq = {"trigger_mode": "software", "nb_frames_per_trigger": 2}
    prepare(backend, params_of(6, acq), link)
    link.receiver.start(FIRST, count=6)

    backend.start()
    backend.trigger()

    wait_until(lambda: backend.nb_exposed() == 6, 10.0)
    assert numbers(link.take_all(patience_s=0.3)) == list(range(FIRST, FIRST + 6))


def test_settings_are_taken_and_given_back(make_backend, make_link):
    backend, link = make_backend(interfaces=2), make_link(interfaces=2)
    asked = params_of(
        2,
        {"expo_time": 10, "latency_time": 2000},
        gain_mode="fixg1",
        high_gain_g0=True,
        readout_speed="full",
        high_voltage=120,
    )

    applied = prepare(backend, asked, link)

    assert (applied.acq.expo_time, applied.acq.latency_time) == (10, 2000)
    assert applied.det.storage_cell_start == 3  # it says that its chips are of version 1.1
    found = backend._get("gain_mode", "settings", "readout_speed", "high_voltage", "chips_on")
    assert found == {
        "gain_mode": ["FIX_G1"],
        "settings": ["HIGHGAIN0"],
        "readout_speed": ["FULL_SPEED"],
        "high_voltage": [120],
        "chips_on": [True],
    }
    prepare(backend, params_of(2, high_voltage=0), link)
    assert backend._get("high_voltage", "gain_mode") == {
        "high_voltage": [0],
        "gain_mode": ["DYNAMIC"],
    }


def test_a_new_control_finds_the_detector_as_it_is(make_backend, make_link):
    link = make_link()
    first = make_backend()
    prepare(first, params_of(3), link)
    first.close()
    second = make_backend()
    before_s = time.monotonic()

    prepare(second, params_of(3), link)

    assert time.monotonic() - before_s < ANSWER_S + 1.0


def test_a_host_where_nothing_listens_is_told_at_once(make_backend, make_link):
    backend, link = make_backend(hostnames=f"{HOST}:{free_pair()}"), make_link()

    with pytest.raises(CameraError, match=r"cannot be connected: .*Cannot connect"):
        prepare(backend, params_of(3), link)


def test_a_host_that_never_answers_does_not_hold_anything_up(make_backend, make_link):
    with socket.socket() as dumb:
        dumb.bind((HOST, 0))
        dumb.listen()
        backend, link = make_backend(hostnames=f"{HOST}:{dumb.getsockname()[1]}"), make_link()
        setup = Setup(params_of(3), FIRST, (link.addresses,))

        before_s = time.monotonic()
        with pytest.raises(CameraError, match="is being connected, which can take"):
            backend.prepare(setup)
        took_s = time.monotonic() - before_s

        assert ANSWER_S - 0.1 < took_s < ANSWER_S + 0.5
        backend.close()
