"""What a receiver tells about one of its runs, to listeners in other servers."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from dataclasses import dataclass

from lima2_core.data.news import pack
from lima2_core.errors import NotAvailableError, ParamError
from lima2_core.service.receiver import ReceiverService
from lima2_core.service.run import Run
from lima2_core.state.run import RunState
from lima2_core.system.ports import UnreachableError
from lima2_core.system.reporter import RunReporter
from lima2_core.system.wire import status_to_tree

log = logging.getLogger(__name__)

ABANDONED_S = 5.0
"""A front that has not asked about its run for so long is gone; it asks every 50 ms."""
STANDSTILL_S = 2.0
"""`Listeners.mind_owner` is called every second: after so long this process had stood still."""
MOST_LISTENERS = 8


@dataclass(slots=True)
class _Listener:
    reporter: RunReporter
    number: int = 0
    """Of the news given last."""
    block: bytes = b""
    served_s: float = 0.0


class Listeners:
    """The listeners of one run; each gets everything once, and an answer that was lost again.

    Of more than `MOST_LISTENERS` the one that was served longest ago is given up.

    Threads: everything from any thread.
    """

    def __init__(self, run: Run, service: ReceiverService) -> None:
        self._run = run
        self._service = service
        self._ids = itertools.count(1)
        self._listeners: dict[int, _Listener] = {}
        self._owner: int | None = None
        self._owner_s = 0.0
        self._minded_s = 0.0
        self._lock = threading.Lock()

    def open(self, *, owner: bool = False) -> int:
        """Listen from now on; gives the id of the listener.

        Args:
            owner: whether it is the front that ordered the run.
        """
        with self._lock:
            while len(self._listeners) >= MOST_LISTENERS:
                self._drop(min(self._listeners, key=lambda n: self._listeners[n].served_s))
            listener = next(self._ids)
            reporter = RunReporter(self._run)
            now_s = time.monotonic()
            self._listeners[listener] = _Listener(reporter, served_s=now_s)
            if owner:
                self._owner, self._owner_s, self._minded_s = listener, now_s, now_s
            return listener

    def mind_owner(self) -> None:
        """Take no more frames for a front that is gone; the runs of others are left alone."""
        run = self._run
        with self._lock:
            now_s = time.monotonic()
            away_s, self._minded_s = now_s - self._minded_s, now_s
            if away_s >= STANDSTILL_S:  # nobody could be heard meanwhile
                self._owner_s += away_s
            silent = self._owner is not None and now_s >= self._owner_s + ABANDONED_S
        if not silent:
            return
        if run.state is RunState.RUNNING and run.error is None:
            log.warning("run %s: its front is silent; no more frames are taken", run.acq_id)
            run.give_up(
                UnreachableError(
                    f"the front has not asked for {ABANDONED_S:g} s, so no more frames were taken"
                )
            )

    def read(self, listener: int, number: int) -> bytes:
        """News ``number`` of a listener, from 1; the same number again gives the same news.

        Raises:
            NotAvailableError: no such listener, or it was given up.
            ParamError: the number is neither that of the last news nor the next one.
        """
        with self._lock:
            found = self._listeners.get(listener)
            if found is None:
                raise NotAvailableError(
                    f"listener {listener} is not known: it was closed, or given up as it was not "
                    "served",
                    listener=listener,
                )
            found.served_s = time.monotonic()
            if listener == self._owner:
                self._owner_s = found.served_s
            if number == found.number + 1:
                service = self._service
                news = found.reporter.news(service.memory(), service.pools.limit_bytes)
                found.block = pack(status_to_tree(news.status), news.records)
                found.number = number
            elif number != found.number or not number:
                raise ParamError(f"the next news have number {found.number + 1}", path="number")
            return found.block

    def close(self, listener: int) -> None:
        """Listen no more; one that is not known is none already."""
        with self._lock:
            self._drop(listener)

    def close_all(self) -> None:
        """The run is gone."""
        with self._lock:
            for listener in list(self._listeners):
                self._drop(listener)

    def _drop(self, listener: int) -> None:
        found = self._listeners.pop(listener, None)
        if found is not None:
            found.reporter.close()
