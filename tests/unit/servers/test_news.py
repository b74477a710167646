"""Runs whose front is gone take no more frames; those that nobody owns are left alone."""

from types import SimpleNamespace

import pytest

from lima2_core.state.run import RunState
from lima2_core.system.ports import UnreachableError
from tango_servers import news
from tango_servers.news import ABANDONED_S, Listeners


class Run:
    """As much of a run as listeners look at."""

    def __init__(self):
        self.acq_id = "a"
        self.state = RunState.RUNNING
        self.error = None

    def give_up(self, error):
        self.error = error


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    clock = SimpleNamespace(s=100.0)
    monkeypatch.setattr(news.time, "monotonic", lambda: clock.s)
    monkeypatch.setattr(news, "RunReporter", lambda run: SimpleNamespace(close=lambda: None))
    return clock


def mind(listeners, clock, for_s):
    """What a receiver does every second."""
    until_s = clock.s + for_s
    while clock.s < until_s:
        clock.s = min(until_s, clock.s + 1.0)
        listeners.mind_owner()


def test_a_run_whose_front_is_silent_for_long_is_given_up_once(clock):
    run = Run()
    listeners = Listeners(run, None)
    listeners.open(owner=True)
    mind(listeners, clock, ABANDONED_S - 0.1)
    assert run.error is None

    mind(listeners, clock, 0.2)

    assert isinstance(run.error, UnreachableError)
    first = run.error
    listeners.mind_owner()
    assert run.error is first


def test_a_receiver_that_stood_still_does_not_take_its_front_for_silent(clock):
    run = Run()
    listeners = Listeners(run, None)
    listeners.open(owner=True)
    clock.s += 10 * ABANDONED_S  # what its front asks waits to be heard
    listeners.mind_owner()
    mind(listeners, clock, ABANDONED_S - 0.1)
    assert run.error is None

    mind(listeners, clock, 0.2)

    assert isinstance(run.error, UnreachableError)


@pytest.mark.parametrize("state", [RunState.PREPARED, RunState.DRAINING])
def test_a_run_that_takes_no_frames_goes_on(clock, state):
    run = Run()
    run.state = state
    listeners = Listeners(run, None)
    listeners.open(owner=True)

    mind(listeners, clock, 2 * ABANDONED_S)

    assert run.error is None


def test_a_run_of_a_conductor_goes_on_whoever_listens(clock):
    run = Run()
    listeners = Listeners(run, None)
    listeners.close(listeners.open())

    mind(listeners, clock, 2 * ABANDONED_S)

    assert run.error is None
