"""A consumer of blissdata beside real servers: it follows runs live, and reads them afterwards.

The consumer is blissdata alone, used as its documentation shows; nothing of it is ours.
"""

import numpy as np
import pytest
import tango
from blissdata import DataStore, ScanState
from blissdata.exceptions import EndOfStream, IndexNoMoreThereError

from lima2_core.worker import Worker
from tests.system.fault_lab import GUARD_S, SystemLab, assert_books, id_of, peak
from tests.tango.devices import wait_until

# blissdata asks a Redis before version 8 in the way that this one knows.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated config_set")

NB_FRAMES, LOST = 150, 33
BURST = 100
"""Frames of the first trigger; the others come after the second."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with SystemLab(tmp_path_factory.mktemp("blissdata")) as lab:
        yield lab


@pytest.fixture
def lab(shared):
    shared.clear()
    yield shared
    shared.clear()


class Consumer:
    """Waits for the next scan, and reads its frames as they come."""

    def __init__(self, url):
        self.store = DataStore(url)
        self.since = self.store.get_last_scan_timetag()
        self.key = ""
        self.frames = []
        self.seen_live = 0
        self.worker = Worker("consumer", self._follow)

    def _follow(self):
        _, self.key = self.store.get_next_scan(since=self.since, timeout=GUARD_S)
        scan = self.store.load_scan(self.key)
        while scan.state < ScanState.PREPARED:
            scan.update(timeout=GUARD_S)
        cursor = scan.streams["frame"].cursor()
        while True:
            try:
                view = cursor.read()
            except EndOfStream:
                break
            self.frames.extend(view.get_data())
            scan.update(block=False)
            if scan.state < ScanState.STOPPED:
                self.seen_live = len(self.frames)
        while scan.state < ScanState.CLOSED:
            scan.update(timeout=GUARD_S)

    def wait_live(self, count):
        """Wait until it has read so many frames before their scan was over."""
        wait_until(lambda: self.seen_live >= count, f"{count} frames read live", GUARD_S)

    def join(self):
        assert self.worker.join(GUARD_S)
        return self.frames

    def scan(self):
        """What is in Redis now."""
        return self.store.load_scan(self.key)


def prepare(lab, folder, *, saved=True, expo_s=0.01):
    """A run with a lost frame and statistics of its images."""
    lost = {"acquisition.det.dropped_frame_idx": LOST}
    lab.order(folder, NB_FRAMES, expo_s=expo_s, burst=BURST, **lost)
    lab.front.set(saving_enabled=saved, statistics_rois="[[0, 0, 48, 32]]")
    return lab.prepare()


def assert_frames(frames):
    """Every frame tells its index; the lost one is zeros."""
    expected = [0 if idx == LOST else round(peak(idx)) for idx in range(NB_FRAMES)]
    assert [int(frame.max()) for frame in frames] == expected


def assert_scan(scan):
    """All is in the scan, frames and numbers, and it is closed."""
    assert scan.state is ScanState.CLOSED
    assert scan.info["end_reason"] == "SUCCESS"
    assert len(scan.streams["frame"]) == NB_FRAMES
    codes, largest = scan.streams["ledger_code"][:], scan.streams["roi0_max"][:]
    assert np.flatnonzero(codes).tolist() == [LOST]
    assert np.flatnonzero(np.isnan(largest)).tolist() == [LOST]
    there = [idx for idx in range(NB_FRAMES) if idx != LOST]
    assert largest[there].round().tolist() == [round(peak(idx)) for idx in there]


def test_a_saved_run_is_followed_live_and_read_from_the_segments_afterwards(lab, tmp_path):
    consumer = Consumer(lab.redis.url)

    run = prepare(lab, tmp_path)
    lab.control.startAcq()
    lab.control.triggerAcq()
    consumer.wait_live(BURST // 2)
    lab.control.triggerAcq()
    frames = consumer.join()
    run.wait_ended(GUARD_S)

    assert_frames(frames)
    lab.control.eraseRun(id_of(run))  # its device is gone
    assert_scan(consumer.scan())
    stream = consumer.scan().streams["frame"]
    assert_frames(stream[:])
    references = stream.get_references(slice(0, NB_FRAMES))
    assert {str(tmp_path)} == {one.file_path.rpartition("/")[0] for one in references}
    assert [(one.file_path[-8:-3], one.index) for one in references] == [
        (f"{idx // 20:05d}", idx % 20) for idx in range(NB_FRAMES)
    ]


def test_a_run_that_is_not_saved_is_read_from_memory_until_it_is_dropped(lab, tmp_path):
    consumer = Consumer(lab.redis.url)

    run = prepare(lab, tmp_path, saved=False)
    lab.control.startAcq()
    lab.control.triggerAcq()
    consumer.wait_live(BURST // 2)
    lab.control.triggerAcq()
    frames = consumer.join()
    run.wait_ended(GUARD_S)

    assert_frames(frames)
    scan = consumer.scan()
    assert_scan(scan)
    newest = scan.streams["frame"][NB_FRAMES - 50 :]
    assert [int(frame.max()) for frame in newest] == [
        round(peak(idx)) for idx in range(NB_FRAMES - 50, NB_FRAMES)
    ]
    assert scan.streams["frame"].get_last_live_image().frame_id == NB_FRAMES - 1
    lab.control.eraseRun(id_of(run))

    def is_gone():
        # Readers hear of it from Redis, a moment after the device of the run has gone.
        try:
            return consumer.scan().streams["frame"][NB_FRAMES - 1] is None
        except tango.DevFailed:
            return False
        except IndexNoMoreThereError:
            return True

    wait_until(is_gone, "the end of its frames", GUARD_S)
    assert_scan(consumer.scan())  # numbers stay


def test_a_restart_of_redis_in_mid_run_is_made_up_for(lab, tmp_path):
    run = prepare(lab, tmp_path)
    lab.control.startAcq()
    lab.control.triggerAcq()
    wait_until(lambda: lab.control.frames_received > 30, "some frames", GUARD_S)

    lab.redis.kill()
    wait_until(lambda: "does not answer" in lab.control.status(), "the trouble", GUARD_S)
    lab.control.triggerAcq()
    wait_until(lambda: lab.control.frames_received == NB_FRAMES - 1, "all without it", GUARD_S)
    lab.redis.start()
    run.wait_ended(GUARD_S)

    assert run.counts() == {"expected": NB_FRAMES, "open": 0, "valid": NB_FRAMES - 1, "dropped": 1}
    assert_books(run, NB_FRAMES)
    scan = lab.scan(id_of(run))
    assert_scan(scan)
    assert_frames(scan.streams["frame"][:])
    assert scan.info["publication"]["interruptions"] == 1
    wait_until(lambda: not run.device.troubles, "no trouble any more", GUARD_S)
    following = lab.quick(tmp_path)
    assert lab.scan(id_of(following)).info["end_reason"] == "SUCCESS"
