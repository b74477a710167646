import h5py
import numpy as np
import pytest

from camera_plugins.reader.plugin import PLUGIN
from lima2_core.camera.api import CameraEnv, SourceRequest
from lima2_core.camera.dispatch import Share
from lima2_core.camera.paced import STOP_LEAD_S
from lima2_core.data.memory import PoolSet
from lima2_core.errors import CameraError, EndOfFrames, ParamError
from lima2_core.ids import AcqId, ReceiverIdx
from lima2_core.testing.fakes import DirectLink, ManualClock

ACQ = AcqId("acq")
EXPO_S, PERIOD_S = 0.003, 0.004
IN_LEAD = int(STOP_LEAD_S / PERIOD_S)  # frames that a stop still counts


def write(path, count, first=0):
    """Frame n holds n everywhere."""
    numbers = np.arange(first, first + count, dtype=np.uint16).reshape(-1, 1, 1)
    with h5py.File(path, "w") as file:
        file["entry_0000/measurement/data"] = np.broadcast_to(numbers, (count, 3, 4))


@pytest.fixture
def recorded(tmp_path):
    """Ten frames."""
    path = tmp_path / "ten.h5"
    write(path, 10)
    return path


@pytest.fixture
def clock():
    return ManualClock(jumps=True)


@pytest.fixture
def pools():
    return PoolSet(2**24)


@pytest.fixture
def make(clock, pools):
    """Make a prepared control part and the open sources of its receivers."""
    opened = []

    def make(acq=None, n_receivers=1, **det):
        params = PLUGIN.params.from_tree(
            {"acq": {"expo_time": 3000, "latency_time": 1000, **(acq or {})}, "det": det}
        )
        env, link = CameraEnv({}, clock), DirectLink()
        control = PLUGIN.make_control(env, link)
        control.check(params)
        for number in range(n_receivers):
            share = Share(ReceiverIdx(number), n_receivers)
            source = PLUGIN.make_receiver(env).source(SourceRequest(ACQ, params, share))
            opened.append(source)
            source.resolve()
            source.open(pools)
            link.sources.append(source)
        control.prepare(ACQ, params, n_receivers)
        return control, *link.sources

    yield make
    for source in opened:
        source.close()


def all_of(source):
    """Frame index and content up to the end."""
    items = []
    while True:
        try:
            items += [(frame.idx, int(frame.data[0, 2, 3])) for frame in source.next_frames(1.0)]
        except EndOfFrames:
            return items


def test_frames_come_at_the_rate_asked_for(make, clock, recorded):
    control, source = make({"nb_frames": 10}, file=str(recorded))
    control.start()

    assert source.next_frames(0) == []
    clock.advance(EXPO_S + 2 * PERIOD_S)
    frames = source.next_frames(0)

    assert [frame.idx for frame in frames] == [0, 1, 2]
    assert frames[1].timestamp_s - frames[0].timestamp_s == pytest.approx(PERIOD_S, abs=1e-6)
    assert control.nb_frames_acquired() == 3


def test_all_is_played_if_no_number_is_given(make, recorded):
    control, source = make({"nb_frames": 0}, file=str(recorded))
    control.start()

    assert source.expected_frames() == 10
    assert all_of(source) == [(n, n) for n in range(10)]
    assert control.nb_frames_acquired() == 10


def test_the_applied_parameters_tell_how_many_frames_come(clock, recorded):
    control = PLUGIN.make_control(CameraEnv({}, clock), DirectLink())
    tree = {"acq": {"nb_frames": 0}, "det": {"file": str(recorded)}}

    applied = control.prepare(ACQ, PLUGIN.params.from_tree(tree), 1)

    assert applied.acq.nb_frames == 10


def test_each_receiver_plays_its_own_frames(make, recorded):
    control, *sources = make({"nb_frames": 10}, n_receivers=3, file=str(recorded))
    control.start()

    for number, source in enumerate(sources):
        assert all_of(source) == [(n, n) for n in range(number, 10, 3)]


def test_a_series_is_played_across_its_files(make, tmp_path):
    for number in range(3):
        write(tmp_path / f"lima2_0_{number:05d}.h5", 4, first=4 * number)
    slice_ = {"start": 1, "stride": 2}
    control, *sources = make(
        {"nb_frames": 6},
        n_receivers=2,
        base_path=str(tmp_path),
        nb_frames_per_file=4,
        frame_slice=slice_,
    )
    control.start()

    assert all_of(sources[0]) == [(0, 1), (2, 5), (4, 9)]
    assert all_of(sources[1]) == [(1, 3), (3, 7), (5, 11)]


def test_a_loop_starts_again(make, recorded):
    control, source = make({"nb_frames": 23}, file=str(recorded), loop=True)
    control.start()

    assert all_of(source) == [(n, n % 10) for n in range(23)]


def test_an_endless_loop_ends_with_the_stop(make, clock, recorded):
    control, source = make({"nb_frames": 0}, file=str(recorded), loop=True)
    control.start()
    clock.advance(EXPO_S + 41 * PERIOD_S)
    control.stop()

    assert source.expected_frames() == 42 + IN_LEAD
    assert all_of(source) == [(n, n % 10) for n in range(42 + IN_LEAD)]


def test_as_fast_as_possible_waits_for_no_clock(make, clock, recorded):
    control, source = make({"nb_frames": 10}, file=str(recorded), as_fast_as_possible=True)
    control.start()

    assert all_of(source) == [(n, n) for n in range(10)]
    assert clock.now_s() == 0


def test_as_fast_as_possible_still_waits_for_its_trigger(make, recorded):
    acq = {"nb_frames": 10, "trigger_mode": "software", "nb_frames_per_trigger": 5}
    control, source = make(acq, file=str(recorded), as_fast_as_possible=True)
    control.start()

    assert source.next_frames(0.1) == []
    control.trigger()
    assert [frame.idx for frame in source.next_frames(0)] == [0, 1, 2, 3, 4]
    assert source.next_frames(0.1) == []


def test_frames_are_read_before_they_are_due(make, pools, recorded):
    _, source = make({"nb_frames": 10}, file=str(recorded), nb_prefetch_frames=4)

    (stats,) = pools.stats().values()

    assert stats.in_use == 4
    source.close()
    assert pools.stats()["reader/4096"].in_use == 0


def test_who_holds_frames_holds_up_the_reading_and_nothing_else(make, recorded):
    acq = {"nb_frames": 10}
    control, source = make(acq, file=str(recorded), nb_prefetch_frames=1, as_fast_as_possible=True)
    control.start()
    held = []
    while frames := source.next_frames(1.0):
        held += frames
    count = len(held)

    held.clear()
    del frames

    assert count == 4  # twice what is read ahead, and one more
    assert [idx for idx, _ in all_of(source)] == list(range(count, 10))


def test_frames_that_are_held_are_not_overwritten(make, recorded):
    control, source = make({"nb_frames": 10}, file=str(recorded), nb_prefetch_frames=8)
    control.start()
    held = []
    while len(held) < 10:
        held += source.next_frames(1.0)

    assert [int(frame.data.max()) for frame in held] == list(range(10))
    assert not any(frame.keepable for frame in held)


def test_more_frames_than_there_are_need_a_loop(make, recorded):
    with pytest.raises(ParamError, match="the files have 10") as refused:
        make({"nb_frames": 11}, file=str(recorded))

    assert refused.value.path == "acq.nb_frames"


@pytest.mark.parametrize(
    ("img", "path"),
    [
        ({"binning": {"x": 2}}, "img.binning"),
        ({"roi": {"dimensions": {"x": 2, "y": 2}}}, "img.roi"),
        ({"flip": "up_down"}, "img.flip"),
    ],
)
def test_image_operations_are_refused(clock, recorded, img, path):
    tree = {"img": img, "det": {"file": str(recorded)}}
    control = PLUGIN.make_control(CameraEnv({}, clock), DirectLink())

    with pytest.raises(ParamError) as refused:
        control.check(PLUGIN.params.from_tree(tree))

    assert refused.value.path == path


def test_buffers_that_do_not_fit_are_refused(make, recorded):
    with pytest.raises(ParamError) as refused:
        make({"nb_frames": 10}, file=str(recorded), nb_prefetch_frames=100_000)

    assert refused.value.path == "det.nb_prefetch_frames"


def test_a_file_that_ends_early_fails_the_run_after_the_frames_before(make, clock, tmp_path):
    for number, count in enumerate((4, 2, 4)):
        write(tmp_path / f"lima2_0_{number:05d}.h5", count, first=4 * number)
    control, source = make({"nb_frames": 12}, base_path=str(tmp_path), nb_frames_per_file=4)
    control.start()
    clock.advance(1.0)
    indices = []
    while len(indices) < 6:
        indices += [frame.idx for frame in source.next_frames(0)]

    for _ in range(2):
        with pytest.raises(CameraError, match="ends after 2 frames") as failed:
            source.next_frames(0)

    assert indices == [0, 1, 2, 3, 4, 5]
    assert failed.value.details["frame_idx"] == 6


def test_a_file_that_vanishes_fails_the_run(make, tmp_path):
    for number in range(3):
        write(tmp_path / f"lima2_0_{number:05d}.h5", 4, first=4 * number)
    control, source = make(
        {"nb_frames": 12}, base_path=str(tmp_path), nb_frames_per_file=4, nb_prefetch_frames=2
    )
    control.start()
    (tmp_path / "lima2_0_00001.h5").unlink()

    with pytest.raises(CameraError, match="frame 4 cannot be played"):
        all_of(source)


def test_the_detector_has_the_size_of_the_last_recording(clock, recorded):
    control = PLUGIN.make_control(CameraEnv({"pixel_size_m": "55e-6"}, clock), DirectLink())
    before = control.info()
    control.check(PLUGIN.params.from_tree({"det": {"file": str(recorded)}}))

    after = control.info()

    assert (before.rows, before.cols) == (0, 0)
    assert (after.rows, after.cols) == (3, 4)
    assert after.pixel_size_m == (55e-6, 55e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pixel_size_m", "small"),
        ("pixel_size_m", "nan"),
        ("pixel_size_m", "-75e-6"),
        ("pixel_size_m", "75"),
        ("data_root", "data"),
        ("data_root", __file__),
    ],
)
def test_a_wrong_property_is_refused_with_its_name_and_its_value(clock, name, value):
    with pytest.raises(ParamError, match=f"'{value}' is no ") as refused:
        PLUGIN.make_control(CameraEnv({name: value}, clock), DirectLink())

    assert refused.value.path == f"properties.{name}"


def test_the_defaults_of_the_contract_are_kept():
    det = PLUGIN.params().to_tree()["det"]

    assert {key: det.pop(key) for key in ("file", "loop", "as_fast_as_possible")} == {
        "file": "",
        "loop": False,
        "as_fast_as_possible": False,
    }
    assert det == {
        "base_path": "/tmp",
        "dataset_path": "/entry_0000/measurement/data",
        "file_type": "nexus",
        "filename_format": "{filename_prefix}_{filename_rank}_{file_number:05d}{filename_suffix}",
        "filename_prefix": "lima2",
        "filename_rank": 0,
        "filename_suffix": ".h5",
        "frame_slice": {"count": 0, "start": 0, "stride": 1},
        "nb_frames_per_file": 50,
        "start_number": 0,
        "nb_prefetch_frames": 16,
    }
