"""A state machine without threads and without I/O: feed an event, get effects."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lima2_core.errors import StateError

S = TypeVar("S", bound=enum.Enum)
E = TypeVar("E", bound=enum.Enum)
F = TypeVar("F", bound=enum.Enum)


@dataclass(frozen=True, slots=True)
class Step(Generic[S, E]):
    """One transition that happened."""

    before: S
    event: E
    after: S


class Machine(Generic[S, E, F]):
    """The present state, and the table that says what comes next.

    Threads: `feed` from one thread at a time; `state` from any.
    """

    def __init__(
        self, initial: S, table: Mapping[tuple[S, E], tuple[S, Sequence[F]]], name: str = ""
    ) -> None:
        self.state = initial
        self.name = name
        self._table = table
        self._history: deque[Step[S, E]] = deque(maxlen=16)

    def allows(self, event: E) -> bool:
        """Whether the table has an entry for ``event`` in the present state."""
        return (self.state, event) in self._table

    def require(self, event: E, what: str) -> None:
        """Refuse ``event`` where the table has no entry for it.

        Raises:
            StateError: it does not fit; ``what`` is the command in the words of the user.
        """
        if not self.allows(event):
            fitting = sorted(s.name for s, e in self._table if e is event)
            raise StateError(
                f"{what} is not possible in state {self.state.name}; "
                f"it needs {' or '.join(fitting)}",
                state=self.state.name,
                history=", ".join(f"{step.event.name}>{step.after.name}" for step in self._history),
            )

    def feed(self, event: E) -> Sequence[F]:
        """Make the transition of ``event`` and give the effects to carry out.

        Raises:
            StateError: the table has no entry for it.
        """
        self.require(event, event.name.lower())
        after, effects = self._table[self.state, event]
        self._history.append(Step(self.state, event, after))
        self.state = after
        return effects

    @property
    def history(self) -> tuple[Step[S, E], ...]:
        """The last transitions, oldest first."""
        return tuple(self._history)
