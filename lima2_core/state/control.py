"""Life cycle of a control device.

The detector is at rest (IDLE), armed (PREPARED), exposing (RUNNING) until Close, or ended early
(STOPPED) until Close. Events that a state has no use for are allowed without effect where clients
send them at any time: Stop and Close.
"""

import enum
from collections.abc import Mapping, Sequence

from lima2_core.state.device import AcqState as S
from lima2_core.state.machine import Machine


class Event(enum.Enum):
    """What can happen."""

    PREPARED = "prepared"
    START = "start"
    TRIGGER = "trigger"
    STOP = "stop"
    CLOSE = "close"
    RESET = "reset"
    FAILED = "failed"
    TERMINATE = "terminate"


class Effect(enum.Enum):
    """What has to be done about it."""

    START = "start"
    TRIGGER = "trigger"
    STOP = "stop"
    CLOSE = "close"


TABLE: Mapping[tuple[S, Event], tuple[S, Sequence[Effect]]] = {
    (S.IDLE, Event.PREPARED): (S.PREPARED, []),
    (S.PREPARED, Event.PREPARED): (S.PREPARED, []),
    (S.STOPPED, Event.PREPARED): (S.PREPARED, []),
    (S.PREPARED, Event.START): (S.RUNNING, [Effect.START]),
    (S.RUNNING, Event.TRIGGER): (S.RUNNING, [Effect.TRIGGER]),
    (S.RUNNING, Event.STOP): (S.STOPPED, [Effect.STOP]),
    (S.IDLE, Event.STOP): (S.IDLE, []),
    (S.PREPARED, Event.STOP): (S.PREPARED, []),
    (S.STOPPED, Event.STOP): (S.STOPPED, []),
    (S.FAULT, Event.STOP): (S.FAULT, [Effect.STOP]),
    (S.IDLE, Event.CLOSE): (S.IDLE, [Effect.CLOSE]),
    (S.PREPARED, Event.CLOSE): (S.IDLE, [Effect.CLOSE]),
    (S.RUNNING, Event.CLOSE): (S.IDLE, [Effect.STOP, Effect.CLOSE]),
    (S.STOPPED, Event.CLOSE): (S.IDLE, [Effect.CLOSE]),
    (S.FAULT, Event.CLOSE): (S.FAULT, [Effect.CLOSE]),
    (S.IDLE, Event.RESET): (S.IDLE, [Effect.CLOSE]),
    (S.PREPARED, Event.RESET): (S.IDLE, [Effect.CLOSE]),
    (S.RUNNING, Event.RESET): (S.IDLE, [Effect.STOP, Effect.CLOSE]),
    (S.STOPPED, Event.RESET): (S.IDLE, [Effect.CLOSE]),
    (S.FAULT, Event.RESET): (S.IDLE, [Effect.CLOSE]),
    (S.RUNNING, Event.FAILED): (S.FAULT, [Effect.STOP]),
    (S.STOPPED, Event.FAILED): (S.FAULT, []),
    **{(state, Event.TERMINATE): (S.TERMINATE, [Effect.STOP, Effect.CLOSE]) for state in S},
}


def control_machine(name: str = "control") -> Machine[S, Event, Effect]:
    """A machine at rest."""
    return Machine(S.IDLE, TABLE, name)
