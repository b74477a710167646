"""A bounded queue with a sending and a receiving end; closing it is the end of the stream."""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lima2_core.errors import Lima2Error, OverrunError

T = TypeVar("T")


class ChannelClosedError(Lima2Error):
    """The other end is gone: nothing more to receive, or nobody left to send to."""

    code = "closed"


class OnFull(enum.Enum):
    """What sending does when no place is free."""

    BLOCK = "block"
    """Wait: the sender is slowed down."""
    FAIL = "fail"
    """Raise `OverrunError` naming the first item that found no place."""
    GAP = "gap"
    """Put the replacement made by ``gap_of`` instead, and go on."""


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """A snapshot: how many items wait, how many fit, how many passed, the highest level."""

    level: int
    capacity: int
    sent: int
    received: int
    peak: int
    replaced: int


class Channel(Generic[T]):
    """Carries items from one or several senders to one or several receivers, in order.

    Args:
        capacity: items that may wait; at least 1.
        on_full: what `send` does when there is no place.
        gap_of: makes the stand-in of an item under `OnFull.GAP`. Stand-ins are small and may
            exceed the capacity, otherwise the loss itself would be lost.

    Threads: everything from any thread.
    """

    def __init__(
        self,
        capacity: int,
        on_full: OnFull = OnFull.BLOCK,
        gap_of: Callable[[T], T] | None = None,
    ) -> None:
        if on_full is OnFull.GAP and gap_of is None:
            raise ValueError("OnFull.GAP needs gap_of")
        self.capacity = max(1, capacity)
        self._on_full = on_full
        self._gap_of = gap_of
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        self._not_empty = threading.Condition(self._lock)
        self._not_full = threading.Condition(self._lock)
        self._closed = False
        self._broken = False
        self._sent = 0
        self._received = 0
        self._peak = 0
        self._replaced = 0

    def send(self, items: Sequence[T]) -> int:
        """Put ``items`` at the end.

        Returns:
            How many of them were replaced, with `OnFull.GAP`.

        Raises:
            OverrunError: no place, with `OnFull.FAIL`; the ``sent`` items before ``first_lost``
                are in.
            ChannelClosedError: the receiver gave up (`break_off`).
        """
        with self._lock:
            done = 0
            replaced = 0
            while done < len(items):
                if self._broken or self._closed:
                    raise ChannelClosedError("the channel takes no more items")
                free = self.capacity - len(self._items)
                if free > 0:
                    portion = items[done : done + free]
                    self._items.extend(portion)
                    done += len(portion)
                    self._sent += len(portion)
                    self._peak = max(self._peak, len(self._items))
                    self._not_empty.notify_all()
                elif self._on_full is OnFull.BLOCK:
                    self._not_full.wait()
                elif self._on_full is OnFull.FAIL:
                    lost = items[done]
                    raise OverrunError(
                        f"the queue of {self.capacity} is full",
                        first_lost=getattr(lost, "idx", None),
                        sent=done,
                    )
                else:
                    assert self._gap_of is not None
                    self._items.append(self._gap_of(items[done]))
                    self._peak = max(self._peak, len(self._items))
                    done += 1
                    self._sent += 1
                    replaced += 1
                    self._not_empty.notify_all()
            self._replaced += replaced
            return replaced

    def receive(self, most: int, timeout_s: float | None = None) -> tuple[int, list[T]]:
        """Take up to ``most`` items from the front.

        Returns:
            The number of items received before these, and the items; none if ``timeout_s``
            passed.

        Raises:
            ChannelClosedError: closed and empty.
        """
        with self._lock:
            if not self._items and not self._closed and not self._broken:
                self._not_empty.wait_for(
                    lambda: self._items or self._closed or self._broken, timeout_s
                )
            if self._broken or (self._closed and not self._items):
                raise ChannelClosedError("the stream has ended")
            count = min(most, len(self._items))
            first = self._received
            if count == len(self._items):
                taken = list(self._items)
                self._items.clear()
            else:
                taken = [self._items.popleft() for _ in range(count)]
            if count:
                self._received += count
                self._not_full.notify_all()
            return first, taken

    def close(self) -> None:
        """End the stream: receivers get what is still in it, then `ChannelClosedError`."""
        with self._lock:
            self._closed = True
            self._not_empty.notify_all()
            self._not_full.notify_all()

    def break_off(self) -> None:
        """Give up from either end: what waits is dropped, both ends get `ChannelClosedError`."""
        with self._lock:
            self._broken = True
            self._items.clear()
            self._not_empty.notify_all()
            self._not_full.notify_all()

    def stats(self) -> ChannelStats:
        with self._lock:
            return ChannelStats(
                len(self._items),
                self.capacity,
                self._sent,
                self._received,
                self._peak,
                self._replaced,
            )
