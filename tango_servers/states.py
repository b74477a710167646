"""States of the core to those of Tango, which Jive and Taurus show."""

import enum

from tango import DevState

from lima2_core.state.device import AcqState

DEV_STATES = {
    AcqState.IDLE: DevState.ON,
    AcqState.PREPARED: DevState.STANDBY,
    AcqState.RUNNING: DevState.RUNNING,
    AcqState.STOPPED: DevState.ON,
    AcqState.FAULT: DevState.FAULT,
    AcqState.TERMINATE: DevState.OFF,
}


class FrontState(enum.Enum):
    """What the whole system is doing, for people."""

    IDLE = "idle"
    PREPARED = "prepared"
    RUNNING = "running"
    FAULT = "fault"
    FOREIGN = "foreign"
    """Busy with an acquisition of another client."""
    TERMINATE = "terminate"


FRONT_STATES = {
    AcqState.IDLE: FrontState.IDLE,
    AcqState.PREPARED: FrontState.PREPARED,
    AcqState.RUNNING: FrontState.RUNNING,
    AcqState.STOPPED: FrontState.IDLE,
    AcqState.FAULT: FrontState.FAULT,
    AcqState.TERMINATE: FrontState.TERMINATE,
}
