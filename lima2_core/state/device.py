"""The states that clients see of a control or receiver device."""

import enum


class AcqState(enum.IntEnum):
    """Value and order as on the wire (contract 01, 3.1)."""

    IDLE = 0
    PREPARED = 1
    RUNNING = 2
    STOPPED = 3
    FAULT = 4
    TERMINATE = 5
