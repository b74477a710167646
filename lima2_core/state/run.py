"""Life cycle of one run: its acquisition, then its processing, which may last longer."""

import enum
from collections.abc import Mapping, Sequence

from lima2_core.state.machine import Machine


class RunState(enum.Enum):
    """Where a run is."""

    PREPARED = "prepared"
    RUNNING = "running"
    DRAINING = "draining"
    """Frames are all taken, and still being processed or saved."""
    DONE = "done"
    FAILED = "failed"
    """Something failed, and everything has ended."""
    DISCARDED = "discarded"
    """Never started."""


class Event(enum.Enum):
    """What can happen."""

    START = "start"
    NOT_ACTIVATED = "not activated"
    ACQUIRED = "acquired"
    PROCESSED = "processed"
    PROCESSED_WITH_ERROR = "processed with error"
    DISCARD = "discard"


class Effect(enum.Enum):
    """Nothing has to be done about events of a run: they come from it."""


R = RunState
TABLE: Mapping[tuple[R, Event], tuple[R, Sequence[Effect]]] = {
    (R.PREPARED, Event.START): (R.RUNNING, []),
    (R.PREPARED, Event.NOT_ACTIVATED): (R.FAILED, []),
    (R.PREPARED, Event.DISCARD): (R.DISCARDED, []),
    (R.RUNNING, Event.ACQUIRED): (R.DRAINING, []),
    (R.DRAINING, Event.PROCESSED): (R.DONE, []),
    (R.DRAINING, Event.PROCESSED_WITH_ERROR): (R.FAILED, []),
}


def run_machine(name: str) -> Machine[R, Event, Effect]:
    """A machine of a prepared run."""
    return Machine(R.PREPARED, TABLE, name)
