"""Commands and events in, one thread out: what a service decides, it decides one at a time."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from lima2_core.errors import BusyError, StateError
from lima2_core.worker import Worker

log = logging.getLogger(__name__)

T = TypeVar("T")


class Pending:
    """One thing to do, and what came of it once `done` is set."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.done = threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None


class Mailbox:
    """Does what it is given, in the order of the due times, on a thread of its own.

    Threads: everything from any thread, but `call` not from its own.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._heap: list[tuple[float, int, Pending]] = []
        self._count = itertools.count()
        self._wake = threading.Condition()
        self._closed = False
        self._worker = Worker(f"mailbox-{name}", self._serve)

    def call(self, work: Callable[[], T], timeout_s: float) -> T:
        """Do ``work`` there and give its result, or raise its error.

        Raises:
            BusyError: not done within ``timeout_s``; it will still be done.
            StateError: the mailbox is closed.
        """
        call = self.submit(work)
        if not call.done.wait(timeout_s):
            raise BusyError(
                f"{self._name} is busy and did not answer within {timeout_s:g} s; try again",
                timeout_s=timeout_s,
            )
        if call.error is not None:
            raise call.error
        value: T = call.value
        return value

    def submit(self, work: Callable[[], object]) -> Pending:
        """Do ``work`` there, and look later what came of it.

        Raises:
            StateError: the mailbox is closed.
        """
        call = Pending(work)
        if not self._put(call, 0.0):
            raise StateError(f"{self._name} has ended and does nothing any more")
        return call

    def post(self, work: Callable[[], object], delay_s: float = 0.0) -> None:
        """Do ``work`` there after ``delay_s``, without waiting for it; an error of it is logged.

        A closed mailbox forgets it.
        """

        def logged() -> None:
            try:
                work()
            except BaseException:
                log.exception("%s could not deal with an event", self._name)

        self._put(Pending(logged), delay_s)

    def close(self) -> None:
        """Do what is due, forget what is not, and end."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._worker.join()

    def _put(self, call: Pending, delay_s: float) -> bool:
        """Whether it will be dealt with."""
        with self._wake:
            if self._closed:
                return False
            due_s = time.monotonic() + delay_s
            heapq.heappush(self._heap, (due_s, next(self._count), call))
            self._wake.notify_all()
            return True

    def _next(self) -> Pending | None:
        with self._wake:
            while True:
                wait_s: float | None = None
                if self._heap:
                    wait_s = self._heap[0][0] - time.monotonic()
                    if wait_s <= 0:
                        return heapq.heappop(self._heap)[2]
                if self._closed:
                    return None
                self._wake.wait(wait_s)

    def _serve(self) -> None:
        while (call := self._next()) is not None:
            try:
                call.value = call.work()
            except BaseException as error:  # noqa: BLE001  it belongs to the caller, who raises it
                call.error = error
            finally:
                call.done.set()
