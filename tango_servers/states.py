"""States of the core to those of Tango, which Jive and Taurus show."""

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
