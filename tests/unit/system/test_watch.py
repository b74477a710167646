import threading
import time

import pytest

from lima2_core.errors import NotAvailableError
from lima2_core.ids import AcqId
from lima2_core.system import watch as watch_module
from lima2_core.system.watch import ReceiverWatch, RunFeed
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.testing.system_doubles import ScriptedReceiver
from lima2_core.testing.system_script import order, rows


class Listener:
    """Takes the news of one run."""

    def __init__(self, receiver, acq_id="a"):
        self.port = receiver.prepare(order().part(0, AcqId(acq_id)))
        self.told = []
        self.lost = []
        self.lost_s = 0.0
        self.broken = None
        self.feed = RunFeed(self.port, self.take, self.lose)

    def take(self, news):
        if self.broken is not None:
            raise self.broken
        self.told += [int(i) for told in news.records.values() for i in told["frame_idx"]]

    def lose(self, reason):
        self.lost_s = time.monotonic()
        self.lost.append(reason)


@pytest.fixture
def receiver():
    return ScriptedReceiver("r0")


@pytest.fixture
def watch(receiver):
    watch = ReceiverWatch(0, receiver)
    yield watch
    receiver.manners.let_go()
    watch.close()


def test_news_are_handed_on_until_the_run_is_finished(watch, receiver):
    listener = Listener(receiver)
    listener.port.tell(rows(0, 1))
    watch.follow(listener.feed)
    assert eventually(lambda: listener.told == [0, 1])

    listener.port.tell(rows(2))
    listener.port.finish()

    assert eventually(lambda: listener.port.closed)
    assert listener.told == [0, 1, 2]
    assert listener.lost == []


def test_several_runs_are_followed_at_once(watch, receiver):
    listeners = [Listener(receiver, name) for name in "abc"]
    for n, listener in enumerate(listeners):
        watch.follow(listener.feed)
        listener.port.tell(rows(n))

    assert eventually(lambda: [one.told for one in listeners] == [[0], [1], [2]])
    listeners[1].port.finish()

    assert eventually(lambda: [one.port.closed for one in listeners] == [False, True, False])


def test_after_a_pause_new_runs_are_followed_as_well(watch, receiver):
    first = Listener(receiver)
    first.port.finish()
    watch.follow(first.feed)
    assert eventually(lambda: first.port.closed)

    second = Listener(receiver)
    second.port.tell(rows(5))
    watch.follow(second.feed)

    assert eventually(lambda: second.told == [5])


def test_a_receiver_that_is_known_to_be_dead_is_lost_at_once(watch, receiver):
    listeners = [Listener(receiver, name) for name in "ab"]
    for listener in listeners:
        watch.follow(listener.feed)
    receiver.manners.dead = True

    assert eventually(lambda: all(one.lost == ["r0 died"] for one in listeners))
    assert eventually(lambda: all(one.port.closed for one in listeners))


def test_a_receiver_that_is_silent_for_long_is_lost(watch, receiver, monkeypatch):
    monkeypatch.setattr(watch_module, "PATIENCE_S", 0.3)
    listener = Listener(receiver)
    silent_s = time.monotonic()
    receiver.manners.silent = True
    watch.follow(listener.feed)

    assert eventually(lambda: listener.lost == ["r0 does not answer"])
    assert 0.25 < listener.lost_s - silent_s < 1.5


def test_a_receiver_that_answers_again_is_not_lost(watch, receiver):
    listener = Listener(receiver)
    receiver.manners.silent = True
    watch.follow(listener.feed)
    asked = threading.Event()
    watch.submit(asked.set)
    assert asked.wait(LIMIT_S)

    receiver.manners.silent = False
    listener.port.tell(rows(0))

    assert eventually(lambda: listener.told == [0])
    assert listener.lost == []


def test_the_time_that_a_question_hangs_counts_as_silence(watch, receiver, monkeypatch):
    monkeypatch.setattr(watch_module, "PATIENCE_S", 0.3)
    listeners = [Listener(receiver, name) for name in "abcde"]
    receiver.manners.hangs_s["news"] = 0.35
    began_s = time.monotonic()

    for listener in listeners:
        watch.follow(listener.feed)

    # One question is enough for all five runs.
    assert eventually(lambda: all(one.lost for one in listeners))
    assert max(one.lost_s for one in listeners) - began_s < 1.2


def test_a_receiver_is_not_lost_because_this_process_stood_still(watch, receiver, monkeypatch):
    monkeypatch.setattr(watch_module, "PATIENCE_S", 0.2)
    monkeypatch.setattr(watch_module, "_QUESTION_S", 0.05)
    listener = Listener(receiver)
    receiver.manners.hangs_s["news"] = 0.4  # longer than any question takes
    watch.follow(listener.feed)
    assert eventually(lambda: watch._silent_since_s is not None)

    del receiver.manners.hangs_s["news"]
    listener.port.tell(rows(0))

    assert eventually(lambda: listener.told == [0])
    assert listener.lost == []


def test_a_receiver_that_was_started_again_has_lost_the_run(watch, receiver):
    listener = Listener(receiver)
    receiver.manners.errors["news"] = NotAvailableError("there is no run 'a' here")
    watch.follow(listener.feed)

    assert eventually(lambda: listener.lost)
    assert listener.lost == ["r0 has lost the run: there is no run 'a' here"]


@pytest.mark.parametrize("error", [ValueError("half a record"), KeyError("row"), TypeError("?")])
def test_news_that_make_no_sense_end_their_run_and_no_other(watch, receiver, error):
    broken, fine = Listener(receiver, "a"), Listener(receiver, "b")
    broken.broken = error
    for listener in (broken, fine):
        watch.follow(listener.feed)
        listener.port.tell(rows(0))

    assert eventually(lambda: broken.lost)
    assert broken.lost[0].startswith("r0 tells what makes no sense")
    fine.port.tell(rows(1))
    assert eventually(lambda: fine.told == [0, 1])


def test_commands_and_questions_take_turns(watch, receiver):
    listener = Listener(receiver)
    watch.follow(listener.feed)

    command = watch.submit(receiver.start)

    assert command.done.wait(LIMIT_S)
    assert listener.port.status.state == "running"
