"""Clients that compare readings of a state, and must see every change of it."""

from __future__ import annotations

import math
import time

RECENT_S = 0.5
"""Who read the state so shortly before Prepare reads it again and again."""

PATIENCE_S = 2.0
"""After Prepare; a client that has not read the state by then is not waited for."""

LOOK_S = 0.05
"""How often it is looked whether it was read."""


class StatePolls:
    """When a state was read last.

    Threads: any.
    """

    def __init__(self) -> None:
        self._read_s = -math.inf

    def note(self) -> None:
        """The state is read now."""
        self._read_s = time.monotonic()

    def missed(self, prepared_s: float) -> bool:
        """Whether a client that reads the state again and again has yet to see a Prepare.

        It was held up, or its computer was: it will read on.

        Args:
            prepared_s: when it was, monotonic.
        """
        is_new = self._read_s <= prepared_s < self._read_s + RECENT_S
        return is_new and time.monotonic() < prepared_s + PATIENCE_S
