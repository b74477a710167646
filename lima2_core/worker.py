"""The only place that creates threads."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable

log = logging.getLogger(__name__)


def let_go(error: BaseException) -> None:
    """Replace the tracebacks of a caught error and of its causes by a note with their text.

    A traceback holds the variables of all functions that were running, and so would keep frame
    memory lent for as long as somebody remembers the error.
    """
    error.add_note("".join(traceback.format_exception(error)))
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        cause = pending.pop()
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            cause.__traceback__ = None
            pending += [cause.__cause__, cause.__context__]


class Worker:
    """A named thread with an owner, who joins it.

    Whatever escapes from ``work`` is handed to ``on_failure`` (on the same thread), so that no
    thread dies unnoticed; without one it is logged. See `let_go`.

    Threads: `join` from the owner only, any number of times.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.name = name
        # The work is forgotten with its end: it mostly leads to the owner, and so back to us.
        self._thread = threading.Thread(
            target=_run, args=(name, work, on_failure), name=name, daemon=True
        )
        self._thread.start()

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


def _run(
    name: str, work: Callable[[], None], on_failure: Callable[[BaseException], None] | None
) -> None:
    try:
        work()
    except BaseException as error:
        if on_failure is None:
            log.exception("thread %s ended by an error", name)
        else:
            let_go(error)
            on_failure(error)
