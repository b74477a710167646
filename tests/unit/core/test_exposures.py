import math

import pytest

from lima2_core.camera.exposures import Exposures


@pytest.mark.parametrize(
    ("now_s", "ended"),
    [(9.0, 0), (10.0, 0), (10.0029, 0), (10.003, 1), (10.0069, 1), (10.007, 2), (14.0, 1000)],
)
def test_frames_count_when_their_exposure_has_ended(now_s, ended):
    exposures = Exposures(expo_s=0.003, period_s=0.004)
    exposures.trigger(10.0)

    assert exposures.ended(now_s) == ended


def test_the_due_time_and_the_count_agree_for_millions_of_frames():
    exposures = Exposures(expo_s=125e-6, period_s=250e-6)
    exposures.trigger(123_456.789)

    for frame in (0, 1, 999, 1_000_000, 123_456_789):
        due_s = exposures.due_s(frame)
        assert exposures.ended(due_s) == frame + 1
        assert exposures.ended(due_s - 10e-6) == frame
        assert due_s == pytest.approx(123_456.789 + frame * 250e-6 + 125e-6, abs=1e-6)


def test_nothing_is_due_before_the_first_trigger():
    exposures = Exposures(expo_s=1.0, period_s=1.0)

    assert exposures.ended(1e9) == 0
    assert exposures.due_s(0) == math.inf


def test_a_burst_follows_each_trigger():
    exposures = Exposures(expo_s=1.0, period_s=2.0, per_trigger=3)
    exposures.trigger(100.0)
    exposures.trigger(200.0)

    starts_s = [exposures.start_s(frame) for frame in range(7)]
    assert starts_s == [100, 102, 104, 200, 202, 204, math.inf]
    assert [exposures.ended(t) for t in (100.5, 101, 150, 201, 203, 999)] == [0, 1, 3, 4, 5, 6]


def test_triggers_that_come_too_early_wait_for_their_turn():
    exposures = Exposures(expo_s=1.0, period_s=2.0, per_trigger=2)
    for at_s in (0.0, 0.1, 0.2, 50.0):
        exposures.trigger(at_s)

    assert [exposures.start_s(2 * burst) for burst in range(4)] == [0, 4, 8, 50]
    assert exposures.ended(10.9) == 5
    assert exposures.nb_triggers == 4


def test_a_train_of_edges_starts_a_burst_each():
    exposures = Exposures(expo_s=1.0, period_s=2.0, per_trigger=2)
    exposures.train(first_s=10.0, every_s=100.0)

    assert [exposures.start_s(frame) for frame in range(5)] == [10, 12, 110, 112, 210]
    assert [exposures.ended(t) for t in (10.9, 11, 13, 109, 111, 213)] == [0, 1, 2, 2, 3, 6]


def test_edges_that_come_faster_than_bursts_are_slowed_down():
    exposures = Exposures(expo_s=1.0, period_s=2.0, per_trigger=2)
    exposures.train(first_s=0.0, every_s=0.5)

    assert [exposures.start_s(frame) for frame in range(5)] == [0, 2, 4, 6, 8]


def test_without_a_period_a_burst_is_due_at_once():
    exposures = Exposures(expo_s=0.0, period_s=0.0, per_trigger=5)
    exposures.trigger(3.0)

    assert exposures.ended(2.9) == 0
    assert exposures.ended(3.0) == 5
