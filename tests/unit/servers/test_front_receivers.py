"""What the front knows of its receivers, and when it asks them."""

import pytest

from lima2_core.errors import Lima2Error
from lima2_core.ids import AcqId
from lima2_core.state.device import AcqState
from lima2_core.system.ports import ReceiverStatus, UnreachableError
from lima2_core.testing.doubles import eventually
from tango_servers import front_receivers
from tango_servers.front_receivers import ReceiverStates

NEVER_S = 60.0


class Port:
    """A receiver that answers what the test says."""

    name = "r0"

    def __init__(self):
        self.state = AcqState.IDLE
        self.error: Lima2Error | None = None
        self.asked = 0

    def status(self):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return ReceiverStatus(self.state, acq_id=AcqId("a"))


@pytest.fixture
def port():
    return Port()


@pytest.fixture
def states(port):
    states = ReceiverStates("x", lambda: [port])
    yield states
    states.end()
    states.join(20.0)


@pytest.fixture
def unasked(monkeypatch):
    """Nobody is asked without a reason."""
    monkeypatch.setattr(front_receivers, "SOON_S", NEVER_S)
    monkeypatch.setattr(front_receivers, "WATCH_S", NEVER_S)


def test_receivers_are_asked_when_something_has_happened(unasked, port, states):
    assert states.line("r0") == "not asked yet"
    port.state = AcqState.RUNNING
    states.ask()
    assert eventually(lambda: states.line("r0") == "running")

    port.state = AcqState.IDLE
    states.ask()

    assert eventually(lambda: states.line("r0") == "idle")
    assert port.asked == 2


def test_they_are_asked_again_soon_as_they_may_follow_a_bit_later(monkeypatch, port, states):
    states.ask()
    assert eventually(lambda: port.asked > 0)
    asked, port.state = port.asked, AcqState.RUNNING

    assert eventually(lambda: states.line("r0") == "running")
    assert port.asked > asked


def test_why_one_is_not_asked_is_told_and_nobody_is_taken_for_it(unasked, port, states):
    port.error = UnreachableError("r0 is not there")
    states.ask()

    assert eventually(lambda: states.line("r0") == "r0 is not there")
    assert states.foreign(lambda acq_id: False) == ""


def test_who_takes_frames_for_another_client_is_named(unasked, port, states):
    port.state = AcqState.RUNNING
    states.ask()

    assert eventually(lambda: states.foreign(lambda acq_id: False) == "r0")
    assert states.foreign(lambda acq_id: True) == ""
