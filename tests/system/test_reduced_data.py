"""Reduced data that clients stream, against numpy on the frames that clients fetch."""

import numpy as np
import pytest

from tests.system.lab import LEGACY, expected
from tests.tango.devices import arc_statistics, pixel_statistics, record_values, rect_statistics

RECTS = [
    {"topleft": {"x": 3, "y": 2}, "dimensions": {"x": 20, "y": 9}},
    {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 48, "y": 32}},
]
ARCS = [
    {"center": {"x": 24.0, "y": 14.5}, "r1": 3.2, "r2": 11.8, "a1": -280.5, "a2": -100.4},
    {"center": {"x": 20.0, "y": 10.0}, "r1": 0.0, "r2": 6.5, "a1": 0.0, "a2": 360.0},
]
NB_FRAMES = 40


@pytest.fixture(scope="module")
def streams(plain_lab):
    """All streams of one acquisition, and its frames."""
    lab = plain_lab
    processing = lab.processing(
        LEGACY,
        {
            "statistics": {"enabled": True, "rect_rois": RECTS, "arc_rois": ARCS},
            "profiles": {"enabled": True, "rois": RECTS, "directions": ["horizontal", "vertical"]},
        },
    )
    lab.prepare(lab.acquisition({"acq.nb_frames": NB_FRAMES}), processing)
    channels = lab.client.pipeline.reduced_data_channels()
    lab.start()
    read = {
        (name, number): lab.reduced(name, number)
        for name, listed in channels.items()
        for number in range(len(listed))
    }
    lab.wait_end()
    frames = [lab.frame(idx) for idx in range(NB_FRAMES)]
    lab.recover()
    return read, frames


def test_there_is_a_channel_for_every_region_and_every_profile(streams):
    read, _ = streams

    assert {key: records.shape for key, records in read.items()} == {
        **{("roi_stats", number): (NB_FRAMES,) for number in range(4)},
        ("roi_profile", 0): (NB_FRAMES, 20),
        ("roi_profile", 1): (NB_FRAMES, 32),
    }


@pytest.mark.parametrize("number", [0, 1])
def test_rectangles_are_those_of_numpy(streams, number):
    read, frames = streams

    wanted = [rect_statistics(frame, RECTS[number]) for frame in frames]

    assert np.allclose(record_values(read["roi_stats", number]), wanted, rtol=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_arcs_are_those_of_numpy(streams, number):
    read, frames = streams

    wanted = [arc_statistics(frame, ARCS[number]) for frame in frames]

    assert np.allclose(record_values(read["roi_stats", 2 + number]), wanted, rtol=1e-6)


def test_profiles_are_those_of_numpy(streams):
    read, frames = streams

    for idx, frame in enumerate(frames):
        columns = [pixel_statistics(frame[0, 2:11, 3 + x]) for x in range(20)]
        rows = [pixel_statistics(frame[0, y]) for y in range(32)]
        assert np.allclose(record_values(read["roi_profile", 0][idx]), columns, rtol=1e-6)
        assert np.allclose(record_values(read["roi_profile", 1][idx]), rows, rtol=1e-6)


def test_values_repeat_exactly_with_the_prefetched_frames(streams):
    read, frames = streams

    for records in read.values():
        assert np.array_equal(records[:16], records[16:32])
        assert not np.array_equal(records[0], records[1])
    assert [frame.max() for frame in frames] == [expected(idx) for idx in range(NB_FRAMES)]


def test_a_thousand_fast_frames_lose_no_record(lab):
    processing = lab.processing(
        LEGACY,
        {
            "fifo.nb_fifo_frames": 1000,
            "statistics": {"enabled": True, "rect_rois": RECTS, "arc_rois": ARCS[:1]},
            "profiles": {"enabled": True, "rois": RECTS, "directions": ["horizontal", "vertical"]},
        },
    )
    lab.prepare(lab.acquisition({"acq.nb_frames": 1000, "acq.expo_time": 250}), processing)
    lab.start()
    statistics, profile = lab.reduced("roi_stats", 0), lab.reduced("roi_profile", 1)
    lab.wait_end()

    peak = [expected(idx) for idx in range(1000)]
    assert profile.shape == (1000, 32)
    assert profile["max"].max(1).tolist() == peak
    assert len(statistics) == 1000


def test_enabled_regions_without_a_region_are_legal(lab):
    empty = {
        "statistics": {"enabled": True, "rect_rois": [], "arc_rois": []},
        "profiles": {"enabled": True, "rois": [], "directions": []},
    }

    lab.acquire(lab.acquisition({"acq.nb_frames": 4}), lab.processing(LEGACY, empty))

    assert lab.client.pipeline.reduced_data_channels() == {}


def test_sums_and_their_records_have_the_indices_of_the_conductor(lab):
    processing = lab.processing(
        LEGACY,
        {
            "accumulation": {"enabled": True, "nb_frames": 5},
            "statistics": {"enabled": True, "rect_rois": RECTS, "arc_rois": []},
        },
    )
    acq_id = lab.prepare(lab.acquisition({"acq.nb_frames": 40}), processing)
    lab.start()
    records = lab.reduced("roi_stats", 0)
    lab.wait_end()

    assert [counters["nb_frames_processed"] for counters in lab.counters(acq_id)] == [4, 4]
    assert len(records) == 8
    for idx in range(8):
        group, receiver = divmod(idx, 2)
        parts = [receiver + 2 * (5 * group + n) for n in range(5)]
        summed = sum(lab.frame(part, "input_frame").astype(int) for part in parts)
        assert np.array_equal(lab.frame(idx), summed)
        wanted = rect_statistics(summed, RECTS[0])
        assert np.allclose(record_values(records[idx : idx + 1]), [wanted], rtol=1e-6)
