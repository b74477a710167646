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

    Threads: `put` from any.
    """

    def __init__(self, deliver: Callable[[int, Sequence[T]], None]) -> None:
        self._deliver = deliver
        self._next = 0
        self._waiting: dict[int, Sequence[T]] = {}
        self._lock = threading.Lock()

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
            self._waiting.clear()
            self._deliver = lambda first, items: None

    def put(self, first: int, items: Sequence[T]) -> None:
        """Bring the items with numbers ``first``, ``first + 1`` ..."""
        with self._lock:
            self._waiting[first] = items
            while (batch := self._waiting.pop(self._next, None)) is not None:
                self._deliver(self._next, batch)
                self._next += len(batch)
