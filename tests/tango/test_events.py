"""What processing devices announce, and when (contract 01, 5.3; lessons: timing rules)."""

import json
import math
import threading
import time

import h5py
import hdf5plugin  # noqa: F401  the filters of the frames
import pytest
import tango

from tests.tango.devices import FAULT, IDLE, Events, wait_until

SETTLE_S = 0.1
FAILING = "LimaProcessingFailing"


def quiet_time(system, run, receiver):
    """Start, and watch the counters of a receiver until it says that it is done.

    Gives the time from their last change to the event, which is not longer than what is given, and
    by how much it may be shorter.
    """
    device, events = run.devices[receiver], run.finished[receiver]
    pause = threading.Event()
    last, changed_s, seen_s = device.progress_counters, 0.0, math.inf
    asked_s = time.monotonic()
    system.start()
    ended = False
    while not ended:
        ended = bool(events.seen)
        before_s, asked_s = asked_s, time.monotonic()
        counters = device.progress_counters
        if counters != last:
            # It was still the old one at some time from then on.
            last, changed_s, seen_s = counters, before_s, time.monotonic()
        pause.wait(0.002)
    return events.wait() - changed_s, seen_s - changed_s


@pytest.mark.parametrize("nb_frames", [1, 2, 40])
def test_the_end_is_announced_once_100_ms_after_the_last_counter_changed(system, nb_frames):
    for _ in range(20):
        run = system.prepare(system.acquisition({"acq.nb_frames": nb_frames}))
        quiet_s, unknown_s = quiet_time(system, run, 0)
        system.finish(run)
        assert quiet_s >= SETTLE_S
        assert [len(events.seen) for events in run.finished] == [1, 1]
        if unknown_s < SETTLE_S / 4 and quiet_s < 0.5:
            return
    raise AssertionError("never seen, or announced late each time")


def test_many_short_acquisitions_announce_every_end_exactly_once(system):
    counts = []
    for number in range(12):
        run = system.acquire(system.acquisition({"acq.nb_frames": 1 + number % 2}))
        counts.append([len(events.seen) for events in (*run.finished, *run.failed)])

    assert counts == [[1, 1, 0, 0]] * 12


def test_when_the_end_is_announced_everything_is_final_and_nothing_follows(system, tmp_path):
    processing = system.processing(
        changes={
            "frame_idx_enabled": True,
            "statistics": {
                "enabled": True,
                "rect_rois": [{"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 9, "y": 9}}],
                "arc_rois": [],
            },
            "saving.enabled": True,
            "saving.base_path": str(tmp_path),
            "saving.nb_frames_per_file": 7,
        }
    )
    run = system.prepare(system.acquisition({"acq.nb_frames": 41}), processing)
    system.start()
    run.finished[0].wait()

    counters = json.loads(run.devices[0].progress_counters)
    files = list(run.devices[0].files)
    with h5py.File(files[-1]) as file:  # it is closed, and not locked any more
        assert len(file["entry_0000/measurement/data"]) == 7
    records = run.pop(0, "popRoiStatistics")
    order = run.pop(0, "popFrameIdx")
    assert run.devices[0].is_finished is True
    for stage in ("source", "input", "processed", "saved"):
        assert counters[f"nb_frames_{stage}"] == 21
    assert files == [f"{tmp_path}/lima2_0_{number:05d}.h5" for number in range(3)]
    assert records["frame_idx"].tolist() == list(range(0, 41, 2))
    assert order["frame_idx"].tolist() == list(range(0, 41, 2))
    assert order["recv_idx"].tolist() == [0] * 21
    system.finish(run)
    assert run.pop(0, "popRoiStatistics").size == 0


def test_a_run_that_never_starts_announces_no_end(system):
    first = system.prepare(system.acquisition({"acq.nb_frames": 4}))
    second = system.prepare(system.acquisition({"acq.nb_frames": 4}))
    system.start()
    system.finish(second)

    assert [events.seen for events in first.finished] == [[], []]
    assert [len(events.seen) for events in second.finished] == [1, 1]


def test_a_pipeline_that_was_not_activated_announces_no_end(system):
    failing = system.processing(FAILING, {"failed_on_activate": True})
    run = system.prepare(system.acquisition({"acq.nb_frames": 4}), failing)
    system.start()
    system.wait_receivers(FAULT)
    system.stop()
    system.reset()
    # Whatever was still to be announced would come before the end of another acquisition.
    system.acquire(system.acquisition({"acq.nb_frames": 4}))

    assert [events.seen for events in run.finished] == [[], []]


def test_an_error_is_announced_before_the_end_which_follows_all_the_same(system):
    failing = system.processing(FAILING, {"failed_frame_idx": 10})
    run = system.prepare(system.acquisition({"acq.nb_frames": 60}), failing)
    told = []

    def note(event):
        told.append(json.loads(run.devices[0].last_error) if not event.err else event)

    identity = run.devices[0].subscribe_event("last_error", tango.EventType.DATA_READY_EVENT, note)
    system.start()
    failed_s = run.failed[0].wait(1)
    system.stop()
    ended_s = run.finished[0].wait(1)
    run.wait_finished()
    run.devices[0].unsubscribe_event(identity)

    assert failed_s < ended_s
    assert set(told[0]) == {"what", "errinfo"}
    assert told[0]["errinfo"]["frame_idx"] == 10
    assert [len(events.seen) for events in run.finished] == [1, 1]


def test_the_end_comes_even_if_the_device_has_been_reset(system):
    run = system.prepare(system.acquisition({"acq.nb_frames": 0}))
    system.start()
    wait_until(lambda: sum(system.xferred()) > 4, "some frames")
    system.reset()
    run.wait_finished()

    assert [len(events.seen) for events in run.finished] == [1, 1]


def test_receivers_announce_the_end_of_their_acquisition(system):
    events = [Events(receiver, "nb_frames_xferred") for receiver in system.receivers]
    pipelines = Events(system.receivers[0], "pipelines", tango.EventType.CHANGE_EVENT)

    run = system.acquire(system.acquisition({"acq.nb_frames": 4}))
    for each in (*events, pipelines):
        each.wait()
        each.close()

    assert [len(each.seen) for each in events] == [1, 1]
    assert run.acq_id in pipelines.seen[-1]
    assert system.states() == [IDLE, IDLE, IDLE]
