from types import SimpleNamespace

import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.ids import AcqId, FrameIdx
from lima2_core.state.system import Phase
from lima2_core.testing.doubles import eventually
from tango_servers.front_images import ImageChoice, ImageFollower

SPEC = FrameSpec((2, 6, 8), np.dtype(np.uint16))


class Current:
    """A run of which ``answers`` are the newest frames, one question after the other."""

    def __init__(self, *answers, received=3, ready=2):
        self.acq_id = AcqId("0b3e")
        self.there = True
        self.last_image_ready = ready
        view = SimpleNamespace(sources={"frame": SPEC})
        self.run = SimpleNamespace(phase=Phase.RUNNING, view=view, received=received)
        self.answers = list(answers)
        self.asked = 0

    def frame(self, source, idx, step):
        assert (source, idx) == ("frame", -1)
        self.asked += 1
        newest = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        data = np.full((2, 6, 8), 10 * newest, np.uint16)
        data[1] += 1
        return Frame(FrameIdx(newest), data[:, ::step, ::step])


@pytest.fixture
def follow():
    followers = []

    def start(current, choice=None):
        followers.append(ImageFollower("test", choice or ImageChoice(), lambda: current))
        return followers[-1]

    yield start
    for follower in followers:
        follower.close(5)


def test_an_image_is_fetched_once_as_long_as_nothing_changes(follow):
    current = Current(2)

    follower = follow(current)

    assert eventually(lambda: follower.newest is not None)
    assert follower.newest.idx == 2
    assert not follower._closed.wait(0.25)
    assert current.asked == 1


def test_a_receiver_that_gives_an_older_frame_than_it_told_of_is_asked_again(follow):
    current = Current(1, 2)

    follower = follow(current)

    assert eventually(lambda: follower.newest is not None and follower.newest.idx == 2)


def test_where_the_last_frames_are_missing_the_one_before_is_shown_and_not_asked_for_for_ever(
    follow,
):
    current = Current(1)

    follower = follow(current)

    assert eventually(lambda: current.asked == 2)
    assert not follower._closed.wait(0.25)
    assert (current.asked, follower.newest.idx) == (2, 1)


def test_another_band_or_size_is_fetched_at_once(follow):
    current, choice = Current(2), ImageChoice()
    follower = follow(current, choice)
    assert eventually(lambda: follower.newest is not None)

    choice.band = 1
    assert eventually(lambda: follower.newest.pixels.max() == 21)
    choice.band, choice.max_size = 5, 4

    assert eventually(lambda: follower.newest.pixels.shape == (3, 4))
    assert follower.newest.pixels.max() == 21
