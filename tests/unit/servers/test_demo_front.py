"""How the demonstration prepares: on a loaded computer the first time may take too long."""

import pytest
import tango

from lima2_core.errors import StateError
from lima2_core.system.ports import UnreachableError
from tango_servers.errors import dev_failed
from tango_servers.local.demo_front import prepare_patiently

RECEIVERS = ("r/1", "r/2")


class FrontDouble:
    """A front that refuses to prepare for the reasons given, one after the other."""

    receiver_devices = RECEIVERS

    def __init__(self, *refusals):
        self.refusals = list(refusals)
        self.prepares = 0

    def dev_name(self):
        return "front"

    def prepareAcq(self):  # noqa: N802  as Tango has it
        self.prepares += 1
        if self.refusals:
            raise dev_failed(self.refusals.pop(0), "front")


class ReceiverDouble:
    def __init__(self, name, asked):
        self.name = name
        self.asked = asked

    def state(self):
        self.asked.append(self.name)


def test_receivers_that_were_late_are_waited_for_and_asked_once_more():
    front, asked = FrontDouble(UnreachableError("r/2 did not answer within 2.2 s")), []

    prepare_patiently(front, lambda name: ReceiverDouble(name, asked))

    assert front.prepares == 2
    assert asked == list(RECEIVERS)


@pytest.mark.parametrize(
    ("refusals", "prepares"),
    [([StateError("it is running")], 1), ([UnreachableError("no"), UnreachableError("no")], 2)],
)
def test_other_refusals_and_a_second_one_are_told(refusals, prepares):
    front = FrontDouble(*refusals)

    with pytest.raises(tango.DevFailed):
        prepare_patiently(front, lambda name: ReceiverDouble(name, []))
    assert front.prepares == prepares
