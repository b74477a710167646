import threading

import pytest

from lima2_core.camera.api import CameraMessage
from lima2_core.ids import AcqId
from lima2_core.testing.doubles import LIMIT_S
from lima2_core.testing.fakes import DirectLink, ManualClock


def waiting(clock, event, until_s):
    """A thread that waits on the clock, and what the wait gave."""
    results = []
    thread = threading.Thread(target=lambda: results.append(clock.wait(event, until_s)))
    thread.start()
    assert clock.wait_for_waiter()
    return thread, results


def test_a_manual_clock_stands_still_until_it_is_moved():
    clock = ManualClock()
    event = threading.Event()
    thread, results = waiting(clock, event, 10.0)

    clock.advance(9.0)
    assert results == []
    clock.advance(1.0)
    thread.join(LIMIT_S)

    assert results == [False]
    assert clock.now_s() == 10.0


def test_an_event_ends_the_wait_on_a_manual_clock():
    clock = ManualClock()
    event = threading.Event()
    thread, results = waiting(clock, event, 10.0)

    event.set()
    thread.join(LIMIT_S)

    assert results == [True]
    assert clock.now_s() == 0.0


def test_a_jumping_clock_moves_to_the_end_of_a_wait():
    clock = ManualClock(jumps=True)
    event = threading.Event()

    assert not clock.wait(event, 3.0)
    assert clock.now_s() == 3.0
    event.set()
    assert clock.wait(event, 9.0)
    assert clock.now_s() == 3.0


def test_a_jumping_clock_does_not_wait_for_ever():
    with pytest.raises(AssertionError, match="without end"):
        ManualClock(jumps=True).wait(threading.Event(), float("inf"))


def test_the_time_of_day_can_be_set():
    clock = ManualClock(wall_s=100.0)
    clock.advance(5.0)
    assert clock.wall_s() == 105.0

    clock.set_wall(50.0)
    clock.advance(1.0)

    assert clock.wall_s() == 51.0
    assert clock.now_s() == 6.0


def test_a_direct_link_calls_every_source_at_once():
    class Source:
        def __init__(self):
            self.taken = []

        def deliver(self, message):
            self.taken.append(message)

    link, sources = DirectLink(), [Source(), Source()]
    link.sources += sources
    message = CameraMessage(AcqId("a"), "start")

    link.broadcast(message)

    assert [source.taken for source in sources] == [[message], [message]]
    assert link.messages == [message]
