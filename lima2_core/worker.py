"""The only place that creates threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Worker:
    """A named thread with an owner, who joins it.

    Whatever escapes from ``work`` is handed to ``on_failure`` (on the same thread), so that no
    thread dies unnoticed; without one it is logged.

    Threads: `join` from the owner only, any number of times.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.name = name
        self._work = work
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            if self._on_failure is None:
                log.exception("thread %s ended by an error", self.name)
            else:
                self._on_failure(error)

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of the thread; False if ``timeout_s`` passed first.

        A thread that joins itself (an owner called back on its own worker) does not wait.
        """
        if self._thread is threading.current_thread():
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()
