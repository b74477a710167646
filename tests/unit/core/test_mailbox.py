import threading
import time
from types import SimpleNamespace

import pytest

from lima2_core.errors import BusyError, ParamError, StateError
from lima2_core.service import mailbox as mailbox_module
from lima2_core.service.mailbox import Mailbox
from lima2_core.testing.doubles import LIMIT_S


@pytest.fixture
def mailbox():
    mailbox = Mailbox("r0")
    yield mailbox
    mailbox.close()


def test_a_call_gives_the_result_of_the_work_done_on_the_mailbox_thread(mailbox):
    assert mailbox.call(lambda: threading.current_thread().name, LIMIT_S) == "mailbox-r0"


def test_a_call_raises_the_error_of_its_work(mailbox):
    error = ParamError("must be odd", path="acq.nb_frames")

    def refuse():
        raise error

    with pytest.raises(ParamError) as caught:
        mailbox.call(refuse, LIMIT_S)

    assert caught.value is error
    assert mailbox.call(lambda: "goes on", LIMIT_S) == "goes on"


def test_things_are_done_one_at_a_time_in_the_order_they_came(mailbox):
    done = []
    gate = threading.Event()
    mailbox.post(lambda: gate.wait(LIMIT_S))
    for n in range(50):
        mailbox.post(lambda n=n: done.append(n))
    gate.set()

    mailbox.call(lambda: None, LIMIT_S)

    assert done == list(range(50))


def test_things_are_done_in_the_order_in_which_they_are_due(mailbox, monkeypatch):
    clock = SimpleNamespace(s=0.0)
    monkeypatch.setattr(mailbox_module, "time", SimpleNamespace(monotonic=lambda: clock.s))
    done = []

    def done_by(now_s):
        clock.s = now_s
        mailbox.call(lambda: done.append("call"), LIMIT_S)  # wakes it
        return done

    mailbox.post(lambda: done.append("late"), 80.0)
    mailbox.post(lambda: done.append("soon"), 20.0)
    mailbox.post(lambda: done.append("now"))

    assert done_by(19.9) == ["now", "call"]
    assert done_by(20.0) == ["now", "call", "soon", "call"]
    assert done_by(79.9) == ["now", "call", "soon", "call", "call"]
    assert done_by(80.0)[-2:] == ["late", "call"]


def test_a_delayed_thing_is_done_when_it_is_due_though_nobody_calls(mailbox):
    done = threading.Event()
    began_s = time.monotonic()

    mailbox.post(done.set, 0.02)

    assert done.wait(LIMIT_S)
    assert time.monotonic() - began_s >= 0.02


def test_a_busy_mailbox_is_an_error_and_the_work_is_done_all_the_same(mailbox):
    gate, done = threading.Event(), threading.Event()
    mailbox.post(lambda: gate.wait(LIMIT_S))

    with pytest.raises(BusyError, match=r"r0 is busy and did not answer within 0.02 s"):
        mailbox.call(done.set, 0.02)

    assert not done.is_set()
    gate.set()
    assert done.wait(LIMIT_S)


def test_an_error_of_an_event_is_logged_and_the_next_is_dealt_with(mailbox, expected_errors):
    expected_errors.allow("r0 could not deal with an event", logger="lima2_core.service.mailbox")

    mailbox.post(lambda: 1 // 0)

    assert mailbox.call(lambda: "goes on", LIMIT_S) == "goes on"
    assert len(expected_errors.seen) == 1


def test_events_may_be_posted_from_the_mailbox_thread(mailbox):
    done = threading.Event()

    mailbox.call(lambda: mailbox.post(done.set), LIMIT_S)

    assert done.wait(LIMIT_S)


def test_closing_does_what_is_due_and_forgets_what_is_not():
    mailbox = Mailbox("r0")
    done = []
    gate = threading.Event()
    mailbox.post(lambda: gate.wait(LIMIT_S))
    mailbox.post(lambda: done.append("due"))
    mailbox.post(lambda: done.append("not due"), 60.0)
    gate.set()

    mailbox.close()

    assert done == ["due"]


def test_a_call_after_the_end_is_refused_at_once():
    mailbox = Mailbox("r0")
    mailbox.close()

    with pytest.raises(StateError, match="r0 has ended"):
        mailbox.call(lambda: None, 60.0)

    mailbox.post(lambda: None)  # events that come late are forgotten
