import threading
from types import SimpleNamespace

import pytest

from lima2_core.errors import NotAvailableError
from lima2_core.ids import AcqId
from lima2_core.system import watch as watch_module
from lima2_core.system.ports import UnreachableError
from lima2_core.system.watch import PATIENCE_S, ReceiverWatch, RunFeed
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.testing.system_doubles import ScriptedReceiver
from lima2_core.testing.system_script import order, rows


class Listener:
    """Takes the news of one run."""

    def __init__(self, receiver, acq_id="a"):
        self.port = receiver.prepare(order().part(0, AcqId(acq_id)))
        self.told = []
        self.lost = []
        self.asked = 0
        """How often it was asked for news."""
        self.hang = lambda: None
        """Done before the answer to each question."""
        self.broken = None
        self._answer, self.port.news = self.port.news, self.news
        self.feed = RunFeed(self.port, self.take, self.lose)

    def news(self):
        self.asked += 1
        self.hang()
        return self._answer()

    def take(self, news):
        if self.broken is not None:
            raise self.broken
        self.told += [int(i) for told in news.records.values() for i in told["frame_idx"]]

    def lose(self, reason):
        self.lost.append(reason)

    def asked_again(self):
        """Whether a whole question more was asked and dealt with from now on."""
        before = self.asked
        return eventually(lambda: self.asked >= before + 2)


@pytest.fixture
def receiver():
    return ScriptedReceiver("r0")


@pytest.fixture
def watch(receiver):
    watch = ReceiverWatch(0, receiver)
    yield watch
    receiver.manners.let_go()
    watch.close()


@pytest.fixture
def clock(monkeypatch):
    """The time by which silence is measured; it passes when the test says so."""
    clock = SimpleNamespace(s=100.0)
    monkeypatch.setattr(watch_module, "time", SimpleNamespace(monotonic=lambda: clock.s))
    return clock


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


def test_a_receiver_that_is_silent_for_long_is_lost(watch, receiver, clock):
    listener = Listener(receiver)
    receiver.manners.silent = True
    watch.follow(listener.feed)
    assert eventually(lambda: watch.silent)

    clock.s += PATIENCE_S - 0.1
    assert listener.asked_again()
    assert listener.lost == []
    clock.s += 0.2

    assert eventually(lambda: listener.lost == ["r0 does not answer"])


def test_a_receiver_that_answers_again_is_not_lost(watch, receiver, clock):
    listener = Listener(receiver)
    receiver.manners.silent = True
    watch.follow(listener.feed)
    assert eventually(lambda: watch.silent)

    receiver.manners.silent = False
    listener.port.tell(rows(0))

    assert eventually(lambda: listener.told == [0])
    clock.s += PATIENCE_S
    assert listener.asked_again()
    assert listener.lost == []
    assert not watch.silent


def test_the_time_that_a_question_hangs_counts_as_silence(watch, receiver, clock, monkeypatch):
    monkeypatch.setattr(watch_module, "PATIENCE_S", 0.3)
    listeners = [Listener(receiver, name) for name in "abcde"]

    def hang():
        clock.s += 0.35
        raise UnreachableError("r0 does not answer")

    all_followed = threading.Event()
    watch.submit(lambda: all_followed.wait(LIMIT_S))
    for listener in listeners:
        listener.hang = hang
        watch.follow(listener.feed)
    all_followed.set()

    assert eventually(lambda: all(one.lost for one in listeners))
    assert sum(one.asked for one in listeners) == 1  # is enough for all five runs


def test_a_receiver_is_not_lost_because_this_process_stood_still(watch, receiver, clock):
    listener = Listener(receiver)

    def stand_still():
        listener.hang = lambda: None
        clock.s += 10 * PATIENCE_S  # longer than any question takes
        raise UnreachableError("r0 does not answer")

    listener.hang = stand_still
    listener.port.tell(rows(0))
    watch.follow(listener.feed)

    assert eventually(lambda: listener.told == [0])
    assert listener.asked >= 2
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
