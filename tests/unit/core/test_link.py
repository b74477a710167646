import threading

import pytest

from lima2_core.camera.api import CameraMessage
from lima2_core.errors import BusyError, ParamError
from lima2_core.ids import AcqId
from lima2_core.service.link import FanOut, from_text, to_text
from lima2_core.testing.doubles import LIMIT_S, eventually


def message(count):
    return CameraMessage(AcqId("a"), "trigger", {"count": count})


class Target:
    def __init__(self):
        self.messages = []

    def __call__(self, message):
        self.messages.append(message)


@pytest.fixture
def lost():
    return []


@pytest.fixture
def fan_out(lost):
    made = []

    def make(**targets):
        link = FanOut(targets, lambda name, error: lost.append((name, error)))
        made.append(link)
        return link

    yield make
    for link in made:
        link.close()


def test_every_receiver_gets_every_message_in_order(fan_out):
    r0, r1 = Target(), Target()
    link = fan_out(r0=r0, r1=r1)
    messages = [message(n) for n in range(100)]

    for each in messages:
        link.broadcast(each)
    link.close()

    assert link.receivers == ("r0", "r1")
    assert r0.messages == r1.messages == messages


def test_a_receiver_that_does_not_answer_delays_no_other(fan_out, lost):
    gate, entered = threading.Event(), threading.Event()

    def silent(message):
        entered.set()
        gate.wait(LIMIT_S)
        raise BusyError("no answer")

    good = Target()
    link = fan_out(silent=silent, good=good)
    link.broadcast(message(1))
    assert entered.wait(LIMIT_S)

    link.broadcast(message(2))  # returns at once

    assert eventually(lambda: len(good.messages) == 2)
    assert lost == []
    gate.set()
    assert eventually(lambda: len(lost) == 2)


def test_a_receiver_that_cannot_be_reached_is_reported_and_gets_later_messages(fan_out, lost):
    got = []

    def unreachable_at_first(message):
        if not lost:
            raise BusyError("no answer")
        got.append(message)

    link = fan_out(r1=unreachable_at_first)
    link.broadcast(message(1))
    link.broadcast(message(2))
    link.close()

    assert [(name, error.message) for name, error in lost] == [("r1", "no answer")]
    assert got == [message(2)]


def test_a_receiver_that_fails_otherwise_is_reported_and_left_out(fan_out, lost, expected_errors):
    expected_errors.allow("the link to broken broke off", logger="lima2_core.service.link")
    tried = []

    def deliver(message):
        tried.append(message)
        raise OSError("connection reset")

    good = Target()
    link = fan_out(broken=deliver, good=good)
    link.broadcast(message(1))
    assert eventually(lambda: lost)
    link.broadcast(message(2))
    link.close()

    assert [(name, str(error)) for name, error in lost] == [
        ("broken", "the link broke off: OSError: connection reset")
    ]
    assert tried == [message(1)]
    assert good.messages == [message(1), message(2)]


def test_after_the_end_a_message_goes_nowhere(fan_out):
    target = Target()
    link = fan_out(r0=target)
    link.close()

    link.broadcast(message(1))

    assert target.messages == []


def test_closing_delivers_what_is_queued(fan_out):
    gate = threading.Event()
    target = Target()

    def slow(message):
        gate.wait(LIMIT_S)
        target(message)

    link = fan_out(r0=slow)
    for n in range(5):
        link.broadcast(message(n))
    gate.set()
    link.close()

    assert len(target.messages) == 5


def test_without_receivers_a_message_goes_nowhere(fan_out):
    link = fan_out()

    link.broadcast(message(1))

    assert link.receivers == ()


@pytest.mark.parametrize(
    "values", [{}, {"count": 3, "t_wall_s": 1.7e9, "why": "edge \N{MICRO SIGN}", "last": True}]
)
def test_a_message_survives_the_way_through_text(values):
    sent = CameraMessage(AcqId("uuid"), "start", values)

    text = to_text(sent)

    assert from_text(text) == sent
    assert text.isascii()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "3",
        "{}",
        '{"acq_id": "a", "kind": "k"}',
        '{"acq_id": 1, "kind": "k", "values": {}}',
        '{"acq_id": "a", "kind": null, "values": {}}',
        '{"acq_id": "a", "kind": "k", "values": []}',
        '{"acq_id": "a", "kind": "k", "values": {"x": [1]}}',
        '{"acq_id": "a", "kind": "k", "values": {"x": null}}',
    ],
)
def test_what_is_no_message_is_refused(text):
    with pytest.raises(ParamError, match="no message of a camera") as caught:
        from_text(text)

    assert caught.value.path == "message"
