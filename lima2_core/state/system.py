"""Life cycle of the whole system as its front shows it, and of one run of the system."""

import enum
from collections.abc import Mapping, Sequence
from typing import Final

from lima2_core.state.device import AcqState as S
from lima2_core.state.machine import Machine


class Event(enum.Enum):
    """What can happen to the system."""

    PREPARED = "prepared"
    START = "start"
    STOP = "stop"
    ENDED = "ended"
    """The current run takes no more frames; it may still be processed and saved."""
    FAILED = "failed"
    """The current run was ended by a fault."""
    RESET = "reset"
    TERMINATE = "terminate"


class Effect(enum.Enum):
    """What has to be done about it."""

    DISCARD = "discard run"
    START = "start run"
    STOP = "stop run"


TABLE: Mapping[tuple[S, Event], tuple[S, Sequence[Effect]]] = {
    (S.IDLE, Event.PREPARED): (S.PREPARED, []),
    (S.PREPARED, Event.PREPARED): (S.PREPARED, []),
    (S.FAULT, Event.PREPARED): (S.PREPARED, []),
    (S.PREPARED, Event.START): (S.RUNNING, [Effect.START]),
    (S.RUNNING, Event.STOP): (S.RUNNING, [Effect.STOP]),
    **{(state, Event.STOP): (state, []) for state in S if state is not S.RUNNING},
    (S.RUNNING, Event.ENDED): (S.IDLE, []),
    (S.RUNNING, Event.FAILED): (S.FAULT, [Effect.STOP]),
    (S.PREPARED, Event.FAILED): (S.FAULT, [Effect.DISCARD]),
    **{(state, Event.ENDED): (state, []) for state in S if state is not S.RUNNING},
    **{(state, Event.FAILED): (state, []) for state in S if state not in (S.RUNNING, S.PREPARED)},
    (S.IDLE, Event.RESET): (S.IDLE, []),
    (S.PREPARED, Event.RESET): (S.IDLE, [Effect.DISCARD]),
    (S.RUNNING, Event.RESET): (S.IDLE, [Effect.STOP]),
    (S.FAULT, Event.RESET): (S.IDLE, []),
    **{(state, Event.TERMINATE): (S.TERMINATE, []) for state in S},
    (S.PREPARED, Event.TERMINATE): (S.TERMINATE, [Effect.DISCARD]),
    (S.RUNNING, Event.TERMINATE): (S.TERMINATE, [Effect.STOP]),
}


def system_machine(name: str = "system") -> Machine[S, Event, Effect]:
    """A machine at rest."""
    return Machine(S.IDLE, TABLE, name)


class Phase(enum.Enum):
    """Where a run of the system is."""

    PREPARED = "prepared"
    RUNNING = "running"
    DRAINING = "draining"
    """Frames are all taken, and still being processed or saved."""
    ENDING = "ending"
    """Receivers have ended; master file and publications are being completed."""
    DONE = "done"
    INCOMPLETE = "incomplete"
    """Ended, with frames missing beyond what the policy of the run allows."""
    DISCARDED = "discarded"


ENDED: Final = frozenset({Phase.DONE, Phase.INCOMPLETE, Phase.DISCARDED})
"""Phases that no run leaves."""


class PhaseEvent(enum.Enum):
    """What can happen to a run of the system."""

    START = "start"
    ACQUIRED = "acquired"
    PROCESSED = "processed"
    WRITTEN = "written"
    WRITTEN_INCOMPLETE = "written incomplete"
    DISCARD = "discard"


PHASES: Mapping[tuple[Phase, PhaseEvent], tuple[Phase, Sequence[Effect]]] = {
    (Phase.PREPARED, PhaseEvent.START): (Phase.RUNNING, []),
    (Phase.PREPARED, PhaseEvent.DISCARD): (Phase.DISCARDED, []),
    (Phase.RUNNING, PhaseEvent.ACQUIRED): (Phase.DRAINING, []),
    (Phase.DRAINING, PhaseEvent.PROCESSED): (Phase.ENDING, []),
    (Phase.ENDING, PhaseEvent.WRITTEN): (Phase.DONE, []),
    (Phase.ENDING, PhaseEvent.WRITTEN_INCOMPLETE): (Phase.INCOMPLETE, []),
}


def phase_machine(name: str) -> Machine[Phase, PhaseEvent, Effect]:
    """A machine of a prepared run."""
    return Machine(Phase.PREPARED, PHASES, name)
