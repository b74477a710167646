"""Waiting for something a device tells, with an end whatever the device does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from client.errors import DeadlineError, ParamError, UnreachableError

T = TypeVar("T")

POLL_S = 0.02
SLOW_POLL_S = 0.1
PATIENCE_S = 10.0
"""A device that does not answer for so long is given up."""


def check_timeout(timeout_s: float | None) -> None:
    """Refuse what is no limit of time, before anything begins.

    Raises:
        ParamError: it is negative, or no number.
    """
    try:
        fits = timeout_s is None or (timeout_s >= 0 and not isinstance(timeout_s, bool))
    except TypeError:
        fits = False
    if not fits:
        raise ParamError(
            f"must be a time in seconds from 0 on, or None for no limit, not {timeout_s!r}",
            path="timeout_s",
        )


class Wait:
    """The pauses between questions to a device, until the time is over.

    Args:
        what: what is waited for, as messages tell it.
        timeout_s: None for no limit, as long as the device answers.
        patience_s: how long it may be silent.

    Raises:
        ParamError: a limit is none.
    """

    def __init__(
        self, what: str, timeout_s: float | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        check_timeout(timeout_s)
        self._what = what
        self._timeout_s = math.inf if timeout_s is None else timeout_s
        self._patience_s = patience_s
        self._until_s = 0.0
        self._silent_since_s: float | None = None
        self._poll_s = POLL_S
        self._never = threading.Event()
        self.progressed()

    def progressed(self) -> None:
        """Begin anew: something came."""
        self._until_s = time.monotonic() + self._timeout_s
        self._poll_s = POLL_S

    def pause(self) -> None:
        """Let some time pass.

        Raises:
            DeadlineError: there is none left.
        """
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise DeadlineError(f"{self._what}: not within {self._timeout_s:g} s")
        self._never.wait(min(self._poll_s, left_s))
        self._poll_s = min(SLOW_POLL_S, self._poll_s * 1.2)

    def ask(self, question: Callable[[], T]) -> T:
        """What a question gives; it is asked again while the device does not answer.

        Raises:
            UnreachableError: it was silent for too long.
        """
        while True:
            try:
                answer = question()
            except UnreachableError:
                now_s = time.monotonic()
                if self._silent_since_s is None:
                    self._silent_since_s = now_s
                if now_s - self._silent_since_s > self._patience_s:
                    raise
                self.pause()
            else:
                self._silent_since_s = None
                return answer
