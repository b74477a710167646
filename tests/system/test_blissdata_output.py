"""Runs as scans of blissdata, in a real Redis that is there, goes away, and comes back.

What follows a run and reads it is blissdata alone, used as its documentation shows.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tango
from blissdata import DataStore, ScanState
from blissdata.exceptions import EndOfStream
from redis import Redis

from lima2_core.data.frame import Validity
from lima2_core.state.device import AcqState
from lima2_core.state.system import Phase
from lima2_core.worker import Worker
from processing.outputs.blissdata import FINISH_S
from tango_servers.local.processes import ChildProcess, free_port
from tango_servers.local.redis import EmbeddedRedis
from tests.system import blissdata_system
from tests.system.blissdata_system import ENDED, SIDE, PublishedSystem, answers, device_name

# blissdata asks a Redis before version 8 in the way that this one knows.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated config_set")

EXPIRY_S = 3600
LIMIT_S = 20
PAUSE = threading.Event()


def wait_until(what, limit_s=LIMIT_S):
    until_s = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < until_s, "it did not happen in time"
        PAUSE.wait(0.01)
    return found


def settings_for(redis, **more):
    return {
        "redis_url": redis.url,
        "scan_session": "id00",
        "scan_expiry_s": str(EXPIRY_S),
        "master_segment_frames": "20",
    } | more


@pytest.fixture
def redis(tmp_path):
    with EmbeddedRedis(tmp_path / "redis") as redis:
        yield redis


@pytest.fixture
def system(redis):
    with PublishedSystem(settings_for(redis)) as system:
        yield system


def scans(redis):
    """All scans, in the order of their numbers."""
    try:
        store = DataStore(redis.url)
    except RuntimeError:  # nothing was ever published
        return []
    _, keys = store.search_existing_scans(session="id00")
    return sorted((store.load_scan(key) for key in keys), key=lambda scan: scan.number)


def results_there(redis):
    """Results of the first scan that are in Redis."""
    return next((len(s.streams["roi0_sum"]) for s in scans(redis) if s.streams), 0)


def closed(redis, count):
    """The scans, once there are ``count`` that are closed."""

    def all_closed():
        found = scans(redis)
        return len(found) == count and all(scan.state is ScanState.CLOSED for scan in found)

    wait_until(all_closed)
    return scans(redis)  # again: blissdata reads the tree of a scan before its state


def assert_complete(scan, nb_frames):
    """Everything is in the scan, with frame 3 as a gap, and it is closed."""
    streams = scan.streams
    sums, codes = streams["roi0_sum"][:], streams["ledger_code"][:]
    assert scan.info["end_reason"] == "SUCCESS"
    assert [len(stream) for stream in (sums, codes)] == [nb_frames, nb_frames]
    assert np.flatnonzero(np.isnan(sums)).tolist() == [3]
    assert np.flatnonzero(codes).tolist() == [3]
    assert (np.delete(sums, 3) > 0).all()
    assert all(stream.is_sealed() for stream in streams.values())


class Follower:
    """A consumer of blissdata: waits for the next scan and reads its frames as they come."""

    def __init__(self, url):
        self.store = DataStore(url)
        self.since = self.store.get_last_scan_timetag()
        self.frames = []
        self.seen_before_end = 0
        self.scan = None
        self.worker = Worker("follower", self._follow)

    def _follow(self):
        _, key = self.store.get_next_scan(since=self.since, timeout=LIMIT_S)
        self.scan = self.store.load_scan(key)
        while self.scan.state < ScanState.PREPARED:
            self.scan.update(timeout=LIMIT_S)
        cursor = self.scan.streams["frame"].cursor()
        while True:
            try:
                view = cursor.read()
            except EndOfStream:
                break
            self.frames.extend(view.get_data())
            self.scan.update(block=False)
            if self.scan.state < ScanState.STOPPED:
                self.seen_before_end = len(self.frames)
        while self.scan.state < ScanState.CLOSED:
            self.scan.update(timeout=LIMIT_S)

    def wait_live(self, count):
        """Wait until it has read so many frames before their scan was over."""
        wait_until(lambda: self.seen_before_end >= count)

    def join(self):
        assert self.worker.join(LIMIT_S)
        return self.frames


class Server:
    """The system in a process of its own, with a Tango device that serves its frames."""

    def __init__(self, folder, redis):
        self.port = free_port()
        command = (sys.executable, blissdata_system.__file__, str(self.port))
        self.child = ChildProcess(
            "the server of the runs",
            (*command, json.dumps(settings_for(redis))),
            log_file=folder / "server.log",
            environ={"PYTHONPATH": str(Path(__file__).parents[2])},
        )

    def __enter__(self):
        self.child.start()
        self.child.wait_ready(lambda: answers(self.port), 30)
        self.device = tango.DeviceProxy(device_name(self.port))
        return self

    def __exit__(self, *error):
        self.child.stop()

    def begin(self, **order):
        self.device.Begin(json.dumps(order))

    def go_on(self):
        self.device.GoOn()

    def wait_ended(self):
        wait_until(lambda: self.device.ended)


@pytest.fixture(scope="module")
def live_redis(tmp_path_factory):
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        DataStore(redis.url, init_db=True)
        yield redis


@pytest.fixture(scope="module")
def server(live_redis, tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server"), live_redis) as server:
        yield server


def assert_frames(frames, count):
    frames = np.asarray(frames)
    assert frames.shape == (count, SIDE, SIDE)
    assert (frames == frames[0]).all(axis=(1, 2)).tolist() == [n != 3 for n in range(count)]
    assert frames[0].any()
    assert not frames[3].any()


def test_a_reader_follows_a_run_that_is_not_saved_and_reads_it_from_memory(server, live_redis):
    follower = Follower(live_redis.url)

    server.begin(nb_frames=100, expo_us=5_000, burst=60)
    follower.wait_live(20)
    server.go_on()
    frames = follower.join()

    assert_frames(frames, 100)
    server.wait_ended()
    scan = follower.store.load_scan(follower.scan.key)
    assert_frames(scan.streams["frame"][:], 100)
    assert_complete(scan, 100)
    assert scan.streams["frame"].get_last_live_image().frame_id == 99


@pytest.mark.parametrize("saved", [False, True])
def test_a_reader_follows_sums_and_reads_them_after_the_end(server, live_redis, tmp_path, saved):
    follower = Follower(live_redis.url)

    folder = str(tmp_path) if saved else ""
    server.begin(nb_frames=101, expo_us=5_000, sums_of=2, folder=folder, burst=60)
    follower.wait_live(10)
    server.go_on()
    followed = np.asarray(follower.join())
    server.wait_ended()

    scan = follower.store.load_scan(follower.scan.key)
    images = scan.streams["frame"][:]
    # Receiver 0 sums 0 + 2, 4 + 6 ... and 100 alone, receiver 1 sums 1 + 3, of which 3 is lost.
    factors = np.full(51, 2)
    factors[[1, 50]] = 1
    np.testing.assert_array_equal(images, factors[:, None, None] * images[1])
    np.testing.assert_array_equal(followed, images)
    assert images[1].any()
    assert follower.seen_before_end <= 51
    assert scan.streams["roi0_sum"][:].tolist() == images.sum(axis=(1, 2)).tolist()
    assert np.flatnonzero(scan.streams["ledger_code"][:]).tolist() == [3]
    lengths = {name: len(scan.streams[name]) for name in ("frame", "roi0_avg", "ledger_code")}
    assert lengths == {"frame": 51, "roi0_avg": 51, "ledger_code": 101}
    channels = scan.info["channels"]
    assert {name: channels[name]["points"] for name in lengths} == lengths
    assert {channels[name]["group"] for name in ("frame", "roi0_avg")} == {"sums"}
    assert ("sum_code" in scan.streams) is saved
    if saved:
        assert scan.streams["frame"].get_references(50).index == 10
        assert np.flatnonzero(scan.streams["sum_code"][:] == Validity.PARTIAL).tolist() == [1, 50]


@pytest.mark.parametrize(
    ("receivers", "mode", "sums"),
    [(1, "round_robin", 23), (2, "round_robin", 24), (2, "partial_frame", 23)],
)
@pytest.mark.parametrize("bands", [1, 2])
def test_sums_are_read_from_files(redis, tmp_path, receivers, mode, sums, bands):
    with PublishedSystem(settings_for(redis), receivers=receivers) as system:
        run = system.begin(
            nb_frames=90, expo_us=1000, folder=tmp_path, mode=mode, sums_of=4, bands=bands
        )
        wait_until(lambda: run.phase in ENDED)
        (scan,) = closed(redis, 1)

    names = ["frame"] if bands == 1 else ["frame_band0", "frame_band1"]
    images = np.stack([scan.streams[name][:] for name in names], axis=1)
    assert images.shape == (sums, bands, SIDE, SIDE)
    assert images.any(axis=(1, 2, 3)).all()
    assert scan.streams["roi0_sum"][:].tolist() == images.sum(axis=(1, 2, 3)).tolist()
    assert len(scan.streams["ledger_code"]) == 90
    assert run.view.accessible("frame") == sums


def test_a_reader_follows_a_run_and_reads_it_from_files_when_the_server_is_gone(
    server, live_redis, tmp_path
):
    follower = Follower(live_redis.url)

    server.begin(nb_frames=90, expo_us=5_000, folder=str(tmp_path), profiles=True, burst=60)
    follower.wait_live(20)
    server.go_on()
    frames = follower.join()
    server.wait_ended()
    server.child.stop()

    assert_frames(frames, 90)
    scan = follower.store.load_scan(follower.scan.key)
    assert_frames(scan.streams["frame"][0:90], 90)
    assert_complete(scan, 90)
    profiles = scan.streams["profile0_sum"][:]
    assert profiles.shape == (90, SIDE)
    assert np.isnan(profiles[3]).all()
    np.testing.assert_allclose(profiles.sum(axis=1), scan.streams["roi0_sum"][:])
    reference = scan.streams["frame"].get_references(89)
    assert reference.file_path == str(tmp_path / "scan_master_00004.h5")
    assert reference.index == 9
    assert scan.path == str(tmp_path / "scan_master.h5")


def test_statistics_of_parts_are_published_as_those_of_whole_frames(redis, system):
    for mode in ("round_robin", "partial_frame"):
        run = system.begin(nb_frames=20, expo_us=1000, profiles=True, mode=mode)
        wait_until(lambda run=run: run.phase in ENDED)

    whole, parts = closed(redis, 2)

    assert_complete(parts, 20)
    assert parts.streams.keys() == whole.streams.keys()
    for name in ("min", "max", "avg", "std", "sum"):
        for stream in (f"roi0_{name}", f"profile0_{name}"):
            made, wanted = parts.streams[stream][:], whole.streams[stream][:]
            assert made.dtype == wanted.dtype
            np.testing.assert_allclose(made, wanted, rtol=3e-7, err_msg=stream)


def test_everything_of_a_scan_expires(redis, system):
    system.begin(nb_frames=10, expo_us=1000)
    (scan,) = closed(redis, 1)

    store = DataStore(redis.url)
    keys = [key for key in store._redis.keys("esrf:*") if b"index" not in key]
    left_s = {key: store._redis.ttl(key) for key in keys}

    assert len(left_s) == len(scan.streams) + 2
    assert all(EXPIRY_S - 60 < ttl <= EXPIRY_S for ttl in left_s.values()), left_s


def test_a_redis_that_kept_its_data_gets_the_rest_of_the_run(redis, system):
    run = system.begin(nb_frames=200, expo_us=5_000, burst=100)
    wait_until(lambda: results_there(redis) > 10)

    redis.kill()
    wait_until(lambda: "does not answer" in system.trouble(run))
    system.go_on()
    redis.start()
    (scan,) = closed(redis, 1)
    system.begin(nb_frames=10, expo_us=1000)

    assert_complete(scan, 200)
    assert scan.info["publication"] == {"interruptions": 1, "given_up": {}}
    wait_until(lambda: run.phase in ENDED)
    wait_until(lambda: system.trouble(run) == "")
    assert_complete(closed(redis, 2)[1], 10)


def test_a_redis_that_comes_back_after_the_run_gets_its_end(redis, system):
    run = system.begin(nb_frames=100, expo_us=5_000, burst=60)
    wait_until(lambda: results_there(redis) > 10)

    redis.kill()
    system.go_on()
    wait_until(lambda: run.phase in ENDED)
    wait_until(lambda: "published when it is back" in system.trouble(run))
    redis.start()

    assert_complete(closed(redis, 1)[0], 100)
    wait_until(lambda: system.trouble(run) == "")


def test_an_empty_redis_is_initialised_and_gets_what_is_left_of_the_run(redis, system):
    system.begin(nb_frames=200, expo_us=5_000, burst=100)
    wait_until(lambda: results_there(redis) > 10)

    redis.kill()
    redis.erase()
    redis.start()
    system.go_on()
    (scan,) = closed(redis, 1)
    system.begin(nb_frames=10, expo_us=1000)

    sums = scan.streams["roi0_sum"][:]
    given_up = scan.info["publication"]["given_up"]["roi_statistics"]
    assert len(sums) == 200
    assert given_up > 10
    assert np.isnan(sums[:given_up]).all()
    assert not np.isnan(sums[given_up:]).any()
    assert_complete(closed(redis, 2)[1], 10)


def test_a_redis_that_was_never_there_holds_nothing_up(redis, system):
    redis.stop()

    runs, took_s = [], []
    for _ in range(3):
        started_s = time.monotonic()
        runs.append(system.begin(nb_frames=20, expo_us=1000))
        wait_until(lambda: runs[-1].phase in ENDED)
        took_s.append(time.monotonic() - started_s)
    redis.erase()
    redis.start()

    found = closed(redis, 3)
    assert max(took_s) < FINISH_S
    assert [scan.info["acq_id"] for scan in found] == [run.acq_id for run in runs]
    for scan in found:
        assert_complete(scan, 20)


def test_a_redis_that_hangs_holds_nothing_up(redis, system):
    system.begin(nb_frames=10, expo_us=1000)
    closed(redis, 1)

    os.kill(redis.pid, signal.SIGSTOP)
    run = system.begin(nb_frames=20, expo_us=1000)
    wait_until(lambda: run.phase in ENDED)
    done = [output.done.is_set() for output in system.coordinator.outputs(run.acq_id)]
    os.kill(redis.pid, signal.SIGCONT)

    assert done == [True, True]  # else the run had been given up to wait for them
    assert_complete(closed(redis, 2)[1], 20)


def test_a_stream_that_somebody_else_ended_stops_neither_its_scan_nor_the_next(redis, system):
    run = system.begin(nb_frames=100, expo_us=5_000, burst=60)
    wait_until(lambda: results_there(redis) > 10)

    (scan,) = scans(redis)
    key = scan.streams["roi0_sum"].key
    DataStore(redis.url)._redis.fcall("seal_stream", 1, key)
    system.go_on()
    wait_until(lambda: run.phase in ENDED)
    (scan,) = closed(redis, 1)
    system.begin(nb_frames=10, expo_us=1000)

    assert 10 < len(scan.streams["roi0_sum"]) < 100
    assert_complete(closed(redis, 2)[1], 10)


def test_a_redis_of_somebody_else_is_left_alone(redis):
    client = Redis.from_url(redis.url)
    client.set("theirs", 1)

    with PublishedSystem(settings_for(redis)) as system:
        run = system.begin(nb_frames=10, expo_us=1000)
        wait_until(lambda: run.phase in ENDED)

        wait_until(lambda: "not blissdata's" in system.trouble(run))
        assert client.keys() == [b"theirs"]
    client.close()


def test_a_run_that_is_never_started_leaves_no_scan(redis, system):
    first = system.begin(nb_frames=10, expo_us=1000)
    wait_until(lambda: first.phase in ENDED)

    system.coordinator.prepare(first.order)
    system.coordinator.prepare(first.order)
    system.coordinator.reset()
    last = system.begin(nb_frames=10, expo_us=1000)

    # Scans are made in the order of the runs.
    found = closed(redis, 2)
    assert [scan.info["acq_id"] for scan in found] == [first.acq_id, last.acq_id]
    assert [scan.number for scan in found] == [1, 2]


def test_overlapping_runs_are_scans_of_their_own(redis, system):
    runs = []
    for _ in range(3):
        runs.append(system.begin(nb_frames=30, expo_us=1000, deferred=True))
        wait_until(lambda: system.coordinator.state is AcqState.IDLE)
    wait_until(lambda: len(scans(redis)) == 3)
    assert [run.phase for run in runs] == [Phase.DRAINING] * 3
    for run in reversed(runs):
        system.process(run)

    found = closed(redis, 3)

    assert [scan.info["acq_id"] for scan in found] == [run.acq_id for run in runs]
    assert [scan.number for scan in found] == [1, 2, 3]
    for scan in found:
        assert_complete(scan, 30)
