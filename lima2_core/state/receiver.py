"""Life cycle of the acquisition on a receiver. Its processing has one of its own: see `run`.

Exactly one transition to IDLE or FAULT ends each acquisition: clients count them. So a failure of
the processing counts only while the acquisition still runs.
"""

import enum
from collections.abc import Mapping, Sequence

from lima2_core.state.device import AcqState as S
from lima2_core.state.machine import Machine


class Event(enum.Enum):
    """What can happen."""

    PREPARED = "prepared"
    START = "start"
    STOP = "stop"
    ENDED = "ended"
    """All frames taken, or the source was interrupted."""
    FAILED = "failed"
    """The acquisition or the processing of the current run failed."""
    RESET = "reset"
    TERMINATE = "terminate"


class Effect(enum.Enum):
    """What has to be done about it."""

    START_RUN = "start run"
    INTERRUPT = "interrupt source"
    DISCARD = "discard run"


TABLE: Mapping[tuple[S, Event], tuple[S, Sequence[Effect]]] = {
    (S.IDLE, Event.PREPARED): (S.PREPARED, []),
    (S.PREPARED, Event.PREPARED): (S.PREPARED, [Effect.DISCARD]),
    (S.PREPARED, Event.START): (S.RUNNING, [Effect.START_RUN]),
    (S.IDLE, Event.STOP): (S.IDLE, []),
    (S.PREPARED, Event.STOP): (S.PREPARED, []),
    (S.RUNNING, Event.STOP): (S.RUNNING, [Effect.INTERRUPT]),
    (S.FAULT, Event.STOP): (S.FAULT, [Effect.INTERRUPT]),
    (S.RUNNING, Event.ENDED): (S.IDLE, []),
    (S.FAULT, Event.ENDED): (S.FAULT, []),
    (S.IDLE, Event.ENDED): (S.IDLE, []),
    (S.PREPARED, Event.ENDED): (S.PREPARED, []),
    (S.RUNNING, Event.FAILED): (S.FAULT, [Effect.INTERRUPT]),
    (S.FAULT, Event.FAILED): (S.FAULT, []),
    (S.IDLE, Event.FAILED): (S.IDLE, []),
    (S.PREPARED, Event.FAILED): (S.PREPARED, []),
    (S.IDLE, Event.RESET): (S.IDLE, []),
    (S.PREPARED, Event.RESET): (S.IDLE, [Effect.DISCARD]),
    (S.RUNNING, Event.RESET): (S.IDLE, [Effect.DISCARD]),
    (S.FAULT, Event.RESET): (S.IDLE, [Effect.DISCARD]),
    **{(state, Event.TERMINATE): (S.TERMINATE, [Effect.DISCARD]) for state in S},
    (S.TERMINATE, Event.ENDED): (S.TERMINATE, []),
    (S.TERMINATE, Event.FAILED): (S.TERMINATE, []),
}


def receiver_machine(name: str = "receiver") -> Machine[S, Event, Effect]:
    """A machine at rest."""
    return Machine(S.IDLE, TABLE, name)
