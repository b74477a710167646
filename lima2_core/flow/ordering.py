"""Put what several threads finished in any order back into order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Ordering(Generic[T]):
    """Hands batches on in the order of their first number, without holes.

    ``deliver`` is called by whichever thread brought the missing batch, one at a time. While it
    waits for room further on, the others that come wait as well: that is the back-pressure.

    While one batch is long in coming, those after it pile up here with their memory. A thread
    that calls `wait_for_room` before it takes the next one keeps that within bounds.

    Args:
        deliver: takes the number of the first item, and the items.
        room: batches that may wait before threads shall bring no more.

    Threads: `put` and `wait_for_room` from any.
    """

    def __init__(self, deliver: Callable[[int, Sequence[T]], None], room: int) -> None:
        self._deliver = deliver
        self._room = room
        self._next = 0
        self._over = False
        self._waiting: dict[int, Sequence[T]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    @property
    def delivered(self) -> int:
        """How many items have been handed on."""
        return self._next

    @property
    def waiting(self) -> int:
        """Batches that wait for an earlier one."""
        return len(self._waiting)

    def clear(self) -> None:
        """Hand nothing on any more: forget batches that wait for one that will never come."""
        with self._lock:
            self._over = True
            self._waiting.clear()
            self._deliver = lambda first, items: None
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Return once fewer than ``room`` batches wait for an earlier one.

        Only threads that have nothing to bring may call it: one of the others ends the wait.
        """
        if len(self._waiting) < self._room:
            return
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < self._room)

    def put(self, first: int, items: Sequence[T]) -> None:
        """Bring the items with numbers ``first``, ``first + 1`` ..."""
        with self._lock:
            if self._over:
                return
            self._waiting[first] = items
            while (batch := self._waiting.pop(self._next, None)) is not None:
                self._deliver(self._next, batch)
                self._next += len(batch)
            self._changed.notify_all()
