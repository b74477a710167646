import logging

import numpy as np
import pytest

from camera_plugins.simulator.plugin import PLUGIN
from lima2_core.camera.api import CameraEnv, CameraMessage, SourceRequest
from lima2_core.camera.dispatch import Share
from lima2_core.camera.paced import STOP_LEAD_S, STOP_LIMIT_S, STOP_WAIT_S
from lima2_core.data.frame import Frame, Gap, Validity
from lima2_core.data.geometry import Placement
from lima2_core.data.memory import PoolSet
from lima2_core.errors import CameraError, EndOfFrames, ParamError
from lima2_core.ids import AcqId, ReceiverIdx
from lima2_core.testing.fakes import DirectLink, ManualClock

ACQ = AcqId("0b5e4a5e-0000-11ef-8000-000000000001")
EXPO_S, PERIOD_S = 0.003, 0.004
IN_LEAD = int(STOP_LEAD_S / PERIOD_S)  # frames that a stop still counts


def make_params(acq=None, det=None, **groups):
    tree = {"acq": {"expo_time": 3000, "latency_time": 1000, **(acq or {})}, "det": det or {}}
    return PLUGIN.params.from_tree({**tree, **groups})


class Rig:
    """A control part and the sources of all receivers, on one manual clock."""

    def __init__(self, params, n_receivers=1, rows=8, cols=8, clock=None, **properties):
        self.clock = clock or ManualClock(jumps=True)
        self.properties = {"rows": str(rows), "cols": str(cols), **properties}
        self.env = CameraEnv(self.properties, self.clock)
        self.link = DirectLink()
        self.pools = PoolSet(2**24)
        self.control = PLUGIN.make_control(self.env, self.link)
        self.receivers = [PLUGIN.make_receiver(self.env) for _ in range(n_receivers)]
        self.sources = [
            receiver.source(SourceRequest(ACQ, params, Share(ReceiverIdx(number), n_receivers)))
            for number, receiver in enumerate(self.receivers)
        ]
        for source in self.sources:
            source.open(self.pools)
        self.link.sources += self.sources
        self.control.prepare(ACQ, params, n_receivers)

    @property
    def source(self):
        return self.sources[0]

    def close(self):
        self.control.close()
        for source, receiver in zip(self.sources, self.receivers, strict=True):
            source.close()
            receiver.close()


@pytest.fixture
def make_rig():
    rigs = []

    def make(*args, **kwargs):
        rigs.append(Rig(*args, **kwargs))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def all_of(source):
    """Everything up to the end."""
    items = []
    while True:
        try:
            items += source.next_frames(1.0)
        except EndOfFrames:
            return items


def due(source):
    """Indices of what is there now."""
    return [item.idx for item in source.next_frames(0)]


def test_frames_come_when_their_exposure_ends(make_rig):
    rig = make_rig(make_params({"nb_frames": 10}))
    rig.control.start()

    assert due(rig.source) == []
    rig.clock.advance(EXPO_S)
    assert due(rig.source) == [0]
    rig.clock.advance(PERIOD_S - 0.001)
    assert due(rig.source) == []
    rig.clock.advance(0.001)
    assert due(rig.source) == [1]
    rig.clock.advance(3 * PERIOD_S)
    assert due(rig.source) == [2, 3, 4]


def test_the_rate_does_not_drift(make_rig):
    # 125 us + 1 us is no finite binary fraction: added up, the error would grow.
    rig = make_rig(make_params({"nb_frames": 0, "expo_time": 125, "latency_time": 1}))
    rig.control.start()
    count = 0

    for _ in range(100):
        rig.clock.advance(0.126)
        while frames := due(rig.source):
            count += len(frames)

    assert count == 100_000


def test_waiting_ends_with_the_next_frame(make_rig):
    rig = make_rig(make_params({"nb_frames": 10}))
    rig.control.start()

    frames = rig.source.next_frames(60.0)

    assert [frame.idx for frame in frames] == [0]
    assert rig.clock.now_s() == pytest.approx(EXPO_S)


def test_nothing_due_gives_nothing_after_the_timeout(make_rig):
    rig = make_rig(make_params({"nb_frames": 10}))

    assert rig.source.next_frames(0.5) == []
    assert rig.clock.now_s() == pytest.approx(0.5)


def test_a_frame_tells_when_its_exposure_began(make_rig):
    rig = make_rig(make_params({"nb_frames": 3}))
    t0_s = rig.clock.wall_s()
    rig.control.start()

    stamps_s = [frame.timestamp_s for frame in all_of(rig.source)]

    assert stamps_s == pytest.approx([t0_s, t0_s + PERIOD_S, t0_s + 2 * PERIOD_S], abs=1e-6)


def test_a_receiver_that_is_late_gets_all_frames(make_rig):
    rig = make_rig(make_params({"nb_frames": 200}), n_receivers=2)
    rig.control.start()
    rig.clock.advance(1.0)

    for number, source in enumerate(rig.sources):
        assert [frame.idx for frame in all_of(source)] == list(range(number, 200, 2))


def test_a_message_that_is_late_does_not_delay_the_frames(make_rig):
    rig = make_rig(make_params({"nb_frames": 10}))
    rig.link.sources.clear()
    rig.control.start()
    rig.clock.advance(EXPO_S + 2 * PERIOD_S)

    rig.source.deliver(rig.link.messages[-1])

    assert due(rig.source) == [0, 1, 2]


class SlowClock(ManualClock):
    """A clock whose reader is held up after each look."""

    held_s = 0.0

    def now_s(self):
        now_s = super().now_s()
        self.advance(self.held_s)
        return now_s

    def wall_s(self):
        wall_s = super().wall_s()
        self.advance(self.held_s)
        return wall_s


def test_a_source_that_is_held_up_gives_no_frame_before_it_is_counted(make_rig):
    rig = make_rig(make_params({"nb_frames": 10}), clock=SlowClock())
    rig.link.sources.clear()
    rig.control.start()
    rig.clock.held_s = PERIOD_S
    rig.source.deliver(rig.link.messages[-1])
    rig.clock.held_s = 0.0

    given = 0
    while given < 10:
        rig.clock.advance(PERIOD_S / 4)
        given += len(due(rig.source))
        assert given <= rig.control.nb_frames_acquired()


def test_a_wrong_clock_of_the_other_computer_does_not_stop_the_frames(make_rig, caplog):
    rig = make_rig(make_params({"nb_frames": 10}))
    message = CameraMessage(ACQ, "start", {"t0_wall_s": rig.clock.wall_s() + 3600})

    with caplog.at_level(logging.WARNING):
        rig.source.deliver(message)
    rig.clock.advance(EXPO_S)

    assert due(rig.source) == [0]
    assert "clocks of control and receiver differ" in caplog.text


def test_setting_the_clock_during_a_run_changes_nothing(make_rig):
    rig = make_rig(make_params({"nb_frames": 10, "trigger_mode": "software"}))
    rig.control.start()
    rig.clock.set_wall(5.0)
    rig.control.trigger()
    rig.clock.advance(EXPO_S)

    assert due(rig.source) == [0]


def test_messages_of_another_acquisition_are_ignored(make_rig):
    rig = make_rig(make_params({"nb_frames": 10}))

    rig.source.deliver(CameraMessage(AcqId("other"), "start", {"t0_wall_s": 0.0}))
    rig.source.deliver(CameraMessage(AcqId("other"), "stop", {"nb_exposed": 0}))
    rig.clock.advance(10.0)

    assert due(rig.source) == []


def test_each_software_trigger_gives_its_frames(make_rig):
    acq = {"nb_frames": 6, "trigger_mode": "software", "nb_frames_per_trigger": 2}
    rig = make_rig(make_params(acq))
    rig.control.start()
    rig.clock.advance(1.0)

    assert due(rig.source) == []
    rig.control.trigger()
    rig.clock.advance(1.0)
    assert due(rig.source) == [0, 1]
    assert rig.control.nb_frames_acquired() == 2


def test_triggers_queue_behind_each_other(make_rig):
    rig = make_rig(make_params({"nb_frames": 42, "trigger_mode": "software"}))
    rig.control.start()

    for _ in range(42):
        rig.control.trigger()
    rig.clock.advance(EXPO_S + 9 * PERIOD_S)

    assert due(rig.source) == list(range(10))
    assert rig.control.nb_frames_acquired() == 10
    assert [frame.idx for frame in all_of(rig.source)] == list(range(10, 42))


def test_the_edges_of_the_pulse_generator_trigger(make_rig):
    acq = {"nb_frames": 4, "trigger_mode": "external", "nb_frames_per_trigger": 2}
    rig = make_rig(make_params(acq), external_edge_period_s="0.5")
    rig.control.start()

    rig.clock.advance(0.49)
    assert due(rig.source) == []
    rig.clock.advance(0.1)
    assert due(rig.source) == [0, 1]
    rig.clock.advance(0.5)
    assert due(rig.source) == [2, 3]
    assert rig.control.nb_frames_acquired() == 4


@pytest.mark.parametrize("stopped_first", [True, False])
def test_a_stop_ends_all_receivers_at_the_same_frame(make_rig, stopped_first):
    rig = make_rig(make_params({"nb_frames": 0}), n_receivers=2)
    rig.control.start()
    rig.clock.advance(EXPO_S + 9.25 * PERIOD_S)  # frames 0 to 9

    early, late = rig.sources
    if stopped_first:
        rig.control.stop()
        early.interrupt()
    else:
        early.interrupt()
        rig.clock.advance(PERIOD_S)  # frame 10 still comes
        rig.control.stop()
    late.interrupt()

    counts = [len(all_of(source)) for source in rig.sources]
    total = IN_LEAD + (10 if stopped_first else 11)
    assert counts == [(total + 1) // 2, total // 2]
    assert sum(counts) == rig.control.nb_frames_acquired()


def test_a_source_that_hears_late_of_a_stop_gives_no_frame_that_is_not_counted(make_rig):
    rig = make_rig(make_params({"nb_frames": 0}), n_receivers=2)
    rig.control.start()
    rig.clock.advance(EXPO_S + 9.25 * PERIOD_S)
    early, late = rig.sources
    rig.control.stop()
    counted = rig.control.nb_frames_acquired()
    rig.clock.advance(STOP_LEAD_S - PERIOD_S)

    for source in (early, late):
        source.interrupt()
    counts = [len(all_of(source)) for source in rig.sources]

    assert sum(counts) == rig.control.nb_frames_acquired() == counted


def test_a_stop_alone_ends_a_source_with_what_was_exposed(make_rig):
    rig = make_rig(make_params({"nb_frames": 100}))
    rig.control.start()
    rig.clock.advance(EXPO_S + 70 * PERIOD_S)
    rig.control.stop()
    rig.clock.advance(1.0)

    assert len(all_of(rig.source)) == 71 + IN_LEAD
    assert rig.source.expected_frames() == 71 + IN_LEAD


def test_an_interrupt_alone_gives_what_was_exposed_and_ends_soon(make_rig):
    rig = make_rig(make_params({"nb_frames": 0}))
    rig.control.start()
    rig.clock.advance(EXPO_S + 4 * PERIOD_S)
    rig.source.interrupt()
    interrupted_s = rig.clock.now_s()

    assert len(all_of(rig.source)) == 5
    assert rig.clock.now_s() - interrupted_s == pytest.approx(STOP_WAIT_S)


def test_an_interrupted_source_does_not_give_old_frames_for_long(make_rig):
    rig = make_rig(make_params({"nb_frames": 0}))
    rig.control.start()
    rig.clock.advance(1000 * PERIOD_S)
    rig.control.stop()
    rig.source.interrupt()

    assert len(rig.source.next_frames(0)) == 64
    rig.clock.advance(STOP_LIMIT_S)
    with pytest.raises(EndOfFrames):
        rig.source.next_frames(0)


def test_a_stop_before_the_start_ends_at_once(make_rig):
    rig = make_rig(make_params({"nb_frames": 10}))
    rig.control.stop()

    with pytest.raises(EndOfFrames):
        rig.source.next_frames(10.0)
    assert rig.clock.now_s() == 0


def test_a_dropped_frame_is_a_gap(make_rig):
    rig = make_rig(make_params({"nb_frames": 5}, {"dropped_frame_idx": 3}))
    rig.control.start()

    items = all_of(rig.source)

    assert [type(item) for item in items] == [Frame, Frame, Frame, Gap, Frame]
    assert items[3] == Gap(3, Validity.DROPPED, "dropped by the simulated detector")


def test_a_failing_frame_fails_its_receiver_after_the_frames_before(make_rig):
    rig = make_rig(make_params({"nb_frames": 8}, {"failed_frame_idx": 5}), n_receivers=2)
    rig.control.start()
    rig.clock.advance(1.0)

    assert [frame.idx for frame in all_of(rig.sources[0])] == [0, 2, 4, 6]
    assert due(rig.sources[1]) == [1, 3]
    for _ in range(2):
        with pytest.raises(CameraError, match="fails at frame 5"):
            rig.sources[1].next_frames(0)


@pytest.mark.parametrize("mode", ["round_robin", "partial_frame"])
def test_of_a_dead_detector_nothing_comes_until_it_is_known(make_rig, mode):
    det = {"dead_after_frames": 5, "dispatch_mode": mode}
    rig = make_rig(make_params({"nb_frames": 8}, det), n_receivers=2)
    rig.control.start()
    rig.clock.advance(1.0)

    given = [[frame.idx for frame in source.next_frames(0.5)] for source in rig.sources]
    assert given == ([[0, 2, 4], [1, 3]] if mode == "round_robin" else [[*range(5)]] * 2)
    asked_s = rig.clock.now_s()
    assert rig.source.next_frames(0.5) == []
    assert rig.clock.now_s() == asked_s + 0.5
    rig.control.stop()

    for source in rig.sources:
        with pytest.raises(EndOfFrames):
            source.next_frames(0.5)


def test_frame_zero_is_neither_dropped_nor_failed(make_rig):
    rig = make_rig(make_params({"nb_frames": 1}, {"dropped_frame_idx": 0, "failed_frame_idx": 0}))
    rig.control.start()

    assert [frame.idx for frame in all_of(rig.source)] == [0]


@pytest.mark.parametrize("mode", ["round_robin", "predictive_random", "full_random"])
def test_every_frame_is_given_once_in_every_dispatch_mode(make_rig, mode):
    rig = make_rig(make_params({"nb_frames": 42}, {"dispatch_mode": mode}), n_receivers=2)
    rig.control.start()

    shares = [[frame.idx for frame in all_of(source)] for source in rig.sources]

    assert sorted(shares[0] + shares[1]) == list(range(42))
    if mode == "predictive_random":
        assert shares[0][:4] == [0, 1, 2, 5]


@pytest.mark.parametrize(
    ("nb_frames", "mode", "expected"),
    [(27, "round_robin", 14), (0, "round_robin", None), (27, "full_random", None)],
)
def test_the_expected_number_is_told_where_it_is_known(make_rig, nb_frames, mode, expected):
    params = make_params({"nb_frames": nb_frames}, {"dispatch_mode": mode})
    rig = make_rig(params, n_receivers=2)

    assert rig.source.expected_frames() == expected
    assert rig.source.keeps_rows == (mode == "round_robin")


def strips(make_rig, n_receivers, nb_frames=3, lost=0, **img):
    """The frames of all receivers, and where they lie."""
    det = {**grown(), "dispatch_mode": "partial_frame", "dropped_frame_idx": lost}
    params = make_params({"nb_frames": nb_frames}, det, **({"img": img} if img else {}))
    rig = make_rig(params, n_receivers=n_receivers, rows=10, cols=6)
    rig.control.start()
    return rig, [all_of(source) for source in rig.sources]


@pytest.mark.parametrize("flip", ["none", "left_right", "up_down"])
def test_strips_lie_where_they_say_in_the_image_and_on_the_detector(make_rig, flip):
    img = {"roi": {"topleft": {"x": 1, "y": 2}, "dimensions": {"x": 5, "y": 7}}, "flip": flip}
    _, (wholes,) = strips(make_rig, 1, **img)

    rig, parts = strips(make_rig, 3, **img)

    places = [source.placement for source in rig.sources]
    assert places == [Placement(0, 0, 7, 5), Placement(2, 0, 7, 5), Placement(4, 0, 7, 5)]
    assert [len(items) for items in parts] == [3, 3, 3]
    for frames, whole in zip(zip(*parts, strict=True), wholes, strict=True):
        joined = np.concatenate([frame.data for frame in frames], axis=1)
        np.testing.assert_array_equal(joined, whole.data)
    last = rig.sources[2].resolve()
    assert last.shape == (1, 3, 5)
    first_row = {"none": 6.0, "left_right": 6.0, "up_down": 4.0}[flip]
    assert last.affine.apply(0, 0) == (first_row, 5.0 if flip == "left_right" else 1.0)


def test_a_lost_frame_is_lost_in_all_strips(make_rig):
    rig, parts = strips(make_rig, 2, nb_frames=5, lost=3)

    assert all(isinstance(items[3], Gap) for items in parts)
    assert [source.expected_frames() for source in rig.sources] == [5, 5]


def test_whole_frames_have_no_placement(make_rig):
    assert make_rig(make_params()).source.placement is None


def test_more_receivers_than_rows_are_refused(make_rig):
    params = make_params({"nb_frames": 1}, {"dispatch_mode": "partial_frame"})

    with pytest.raises(ParamError, match="3 rows of the image cannot be split") as refused:
        make_rig(params, n_receivers=4, rows=3)

    assert refused.value.path == "det.dispatch_mode"


def grown(pixel_type="gray16", **det):
    gauss = {"peaks": [{"x0": 4, "y0": 4, "fwhm": 4, "max": 100}], "grow_factor": 0.1}
    return {"generator": {"gauss": gauss, "pixel_type": pixel_type}, **det}


def test_the_content_repeats_and_is_the_same_on_all_receivers(make_rig):
    params = make_params({"nb_frames": 40}, grown(nb_prefetch_frames=4))
    rig = make_rig(params, n_receivers=3)
    rig.control.start()

    frames = sorted((f for source in rig.sources for f in all_of(source)), key=lambda f: f.idx)

    for frame in frames:
        np.testing.assert_array_equal(frame.data, frames[frame.idx % 4].data)
        assert frame.data.max() == 100 + 10 * (frame.idx % 4)
        assert frame.keepable


def test_images_outlive_their_run(make_rig):
    rig = make_rig(make_params({}, grown(nb_prefetch_frames=4)))
    before = rig.pools.stats()
    params = make_params({"nb_frames": 7}, grown(nb_prefetch_frames=4))
    again = rig.receivers[0].source(SourceRequest(AcqId("next"), params, Share()))

    again.open(rig.pools)

    assert rig.pools.stats() == before
    again.close()


def test_frames_on_their_way_keep_their_content_when_images_change(make_rig):
    rig = make_rig(make_params({"nb_frames": 1}, grown()))
    rig.control.start()
    (frame,) = all_of(rig.source)
    before = frame.data.copy()
    rig.source.close()

    other = make_params({}, grown(nb_prefetch_frames=3), img={"flip": "up_down"})
    rig.receivers[0].source(SourceRequest(AcqId("next"), other, Share())).open(rig.pools)

    np.testing.assert_array_equal(frame.data, before)


def test_images_that_do_not_fit_are_refused(make_rig):
    rig = make_rig(make_params())
    params = make_params({}, grown(nb_prefetch_frames=10_000))
    source = rig.receivers[0].source(SourceRequest(AcqId("big"), params, Share()))

    with pytest.raises(ParamError) as refused:
        source.open(rig.pools)

    assert refused.value.path == "det.nb_prefetch_frames"


def test_images_of_earlier_sizes_make_room(make_rig):
    rig = make_rig(make_params({}, grown(nb_prefetch_frames=3000)))
    rig.source.close()
    params = make_params({}, grown("gray64f", nb_prefetch_frames=3000), img={"flip": "up_down"})

    source = rig.receivers[0].source(SourceRequest(AcqId("next"), params, Share()))
    source.open(rig.pools)

    assert source.resolve().dtype == np.float64
    source.close()


def test_identical_images_are_drawn_once(make_rig):
    rig = make_rig(make_params({}, {"nb_prefetch_frames": 1_000_000}))

    assert [stats.in_use for stats in rig.pools.stats().values()] == [1]
