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


def test_a_run_whose_front_is_silent_for_long_is_given_up_once(clock):
    run = Run()
    listeners = Listeners(run, None)
    listeners.open(owner=True)
    clock.s += ABANDONED_S - 0.1
    listeners.mind_owner()
    assert run.error is None

    clock.s += 0.2
    listeners.mind_owner()

    assert isinstance(run.error, UnreachableError)
    first = run.error
    listeners.mind_owner()
    assert run.error is first


@pytest.mark.parametrize("state", [RunState.PREPARED, RunState.DRAINING])
def test_a_run_that_takes_no_frames_goes_on(clock, state):
    run = Run()
    run.state = state
    listeners = Listeners(run, None)
    listeners.open(owner=True)
    clock.s += 2 * ABANDONED_S

    listeners.mind_owner()

    assert run.error is None


def test_a_run_of_a_conductor_goes_on_whoever_listens(clock):
    run = Run()
    listeners = Listeners(run, None)
    listeners.close(listeners.open())
    clock.s += 2 * ABANDONED_S

    listeners.mind_owner()

    assert run.error is None
