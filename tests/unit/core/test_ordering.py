import itertools
import random
import threading

import pytest

from lima2_core.flow.ordering import Ordering
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.worker import Worker


class Collected:
    def __init__(self):
        self.batches = []

    def __call__(self, at, items):
        self.batches.append((at, list(items)))

    @property
    def items(self):
        return [item for _, items in self.batches for item in items]


@pytest.mark.parametrize("order", list(itertools.permutations([(0, "ab"), (2, "c"), (3, "def")])))
def test_batches_leave_in_order_however_they_come(order):
    collected = Collected()
    ordering = Ordering(collected, room=4)

    for first, items in order:
        ordering.put(first, items)

    assert collected.batches == [(0, list("ab")), (2, ["c"]), (3, list("def"))]
    assert ordering.delivered == 6
    assert ordering.waiting == 0


def test_a_batch_waits_for_those_before_it():
    collected = Collected()
    ordering = Ordering(collected, room=4)

    ordering.put(2, "c")
    ordering.put(3, "d")

    assert collected.batches == []
    assert (ordering.delivered, ordering.waiting) == (0, 2)
    ordering.put(0, "ab")
    assert collected.items == list("abcd")


def test_while_one_is_delivered_the_others_wait():
    gate, entered = threading.Event(), threading.Event()
    collected = Collected()

    def deliver(at, items):
        entered.set()
        gate.wait(LIMIT_S)
        collected(at, items)

    ordering = Ordering(deliver, room=4)
    first = Worker("first", lambda: ordering.put(0, "a"))
    assert entered.wait(LIMIT_S)
    second = Worker("second", lambda: ordering.put(1, "b"))

    assert not second.join(0.05)
    gate.set()

    assert first.join(LIMIT_S)
    assert second.join(LIMIT_S)
    assert collected.items == ["a", "b"]


def test_many_threads_bring_many_batches():
    collected = Collected()
    ordering = Ordering(collected, room=4)
    batches = [(first, range(first, first + 5)) for first in range(0, 2000, 5)]
    random.Random(1).shuffle(batches)

    def bring(n):
        for first, items in batches[n::4]:
            ordering.put(first, items)

    workers = [Worker(f"bringer-{n}", lambda n=n: bring(n)) for n in range(4)]

    assert all(worker.join(LIMIT_S) for worker in workers)
    assert collected.items == list(range(2000))
    assert eventually(lambda: ordering.waiting == 0)


def test_once_it_is_cleared_nothing_is_handed_on_and_nothing_waits():
    collected = Collected()
    ordering = Ordering(collected, room=4)
    ordering.put(1, "b")

    ordering.clear()
    ordering.put(0, "a")

    assert collected.items == []
    assert ordering.waiting == 0


def test_who_waits_for_room_goes_on_once_the_missing_batch_has_come():
    collected = Collected()
    ordering = Ordering(collected, room=2)
    ordering.put(1, "b")
    ordering.wait_for_room()
    ordering.put(2, "c")

    ahead = Worker("ahead", ordering.wait_for_room)
    assert not ahead.join(0.05)
    ordering.put(0, "a")

    assert ahead.join(LIMIT_S)
    assert collected.items == ["a", "b", "c"]


def test_nobody_waits_for_room_once_it_is_cleared():
    ordering = Ordering(Collected(), room=1)
    ordering.put(1, "b")
    ahead = Worker("ahead", ordering.wait_for_room)
    assert not ahead.join(0.05)

    ordering.clear()
    ordering.put(2, "c")
    ordering.wait_for_room()

    assert ahead.join(LIMIT_S)
