"""One receiver as the coordinator deals with it: commands and questions on a thread of its own.

A receiver that does not answer costs its own thread time, and nobody else's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from lima2_core.errors import Lima2Error
from lima2_core.service.mailbox import Mailbox, Pending
from lima2_core.system.ports import ReceiverPort, RunNews, RunPort, UnreachableError

log = logging.getLogger(__name__)

POLL_S = 0.05
"""Time between two questions to a receiver."""

PATIENCE_S = 2.0
"""A receiver that has not answered for so long is lost for the runs in hand."""

_QUESTION_S = 1.5
"""No question takes longer than that, as ports have limits."""


class RunFeed:
    """Hands the news of one run on one receiver to whom they concern.

    ``take`` and ``lose`` are called on the thread of the receiver.
    """

    def __init__(
        self,
        port: RunPort,
        take: Callable[[RunNews], None],
        lose: Callable[[str], None],
    ) -> None:
        self.port = port
        self.take = take
        self.lose = lose
        self.over = False
        """Nothing more will come: finished, lost, or given up."""


class ReceiverWatch:
    """Commands to one receiver, and news of its runs.

    Threads: everything from any thread.
    """

    def __init__(self, index: int, port: ReceiverPort) -> None:
        self.index = index
        self.port = port
        self.name = port.name
        self._mailbox = Mailbox(f"watch-{port.name}")
        self._feeds: list[RunFeed] = []
        self._polling = False
        self._silent_since_s: float | None = None

    @property
    def silent(self) -> bool:
        """Whether it gave no answer when it was asked last."""
        return self._silent_since_s is not None

    def submit(self, work: Callable[[], object]) -> Pending:
        """Do ``work`` with the port on the thread of this receiver."""
        return self._mailbox.submit(work)

    def follow(self, feed: RunFeed) -> None:
        """Ask for news of a run from now on, until it is over."""

        def begin() -> None:
            self._feeds.append(feed)
            if not self._polling:
                self._polling = True
                self._mailbox.post(self._poll)

        self._mailbox.post(begin)

    def close(self) -> None:
        """Ask no more."""
        self._mailbox.close()

    def _poll(self) -> None:
        for feed in list(self._feeds):
            if not feed.over:
                self._ask(feed)
            if feed.over:
                self._feeds.remove(feed)
                feed.port.close()
        self._polling = bool(self._feeds)
        if self._polling:
            self._mailbox.post(self._poll, POLL_S)

    def _ask(self, feed: RunFeed) -> None:
        asked_s = time.monotonic()
        try:
            news = feed.port.news()
        except UnreachableError as error:
            self._note_silence(error, asked_s)
            return
        except Lima2Error as error:
            # It answers, and knows nothing of the run: it was started again meanwhile.
            self._give_up(feed, f"{self.name} has lost the run: {error}")
            return
        self._silent_since_s = None
        try:
            feed.take(news)
        except (ValueError, TypeError, LookupError) as error:
            log.warning("news of %s make no sense", self.name, exc_info=error)
            self._give_up(feed, f"{self.name} tells what makes no sense: {error}")
            return
        if news.status.finished:
            feed.over = True

    def _note_silence(self, error: UnreachableError, asked_s: float) -> None:
        if self._silent_since_s is None:
            # A question that took longer: it was this process that stood still meanwhile.
            self._silent_since_s = max(asked_s, time.monotonic() - _QUESTION_S)
            log.warning("receiver %s does not answer: %s", self.name, error)
        dead = bool(error.details.get("dead"))
        if dead or time.monotonic() - self._silent_since_s >= PATIENCE_S:
            for feed in self._feeds:
                if not feed.over:
                    self._give_up(feed, f"{self.name} {'died' if dead else 'does not answer'}")

    def _give_up(self, feed: RunFeed, reason: str) -> None:
        feed.over = True
        feed.lose(reason)
