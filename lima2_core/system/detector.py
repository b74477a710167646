"""What the detector says of itself, and what that means for the run that it takes frames for."""

from __future__ import annotations

import time

from lima2_core.errors import CameraError, Lima2Error
from lima2_core.state.device import AcqState
from lima2_core.state.system import Phase
from lima2_core.system.ports import ControlStatus
from lima2_core.system.run import SystemRun

SILENCE_S = 3.0
"""A detector of which nobody knows whether it goes on does not, once no frame has come for so long
or for three frame times."""

News = ControlStatus | Lima2Error


def failure_of(run: SystemRun, control: str, news: News) -> Lima2Error | None:
    """Why the detector gives no more frames, as its control says while the run goes on.

    Args:
        run: takes frames, or has just ended to take them.
        control: name of the control.
        news: what it answered; an error if it did not.
    """
    if run.interrupted:
        return None  # whatever becomes of it now
    if not isinstance(news, ControlStatus):
        return news if run.phase is Phase.RUNNING else None
    if not run.short:
        return None  # it has done all that it should
    if news.state is AcqState.FAULT:
        reason = news.error
    elif news.doubt and _silent(run):
        reason = news.doubt
    else:
        return None
    return CameraError(f"{control}: {reason}")


def _silent(run: SystemRun) -> bool:
    """Whether frames that are due do not come."""
    if run.phase is not Phase.RUNNING:
        return True  # its receivers have waited for them
    acq = run.view.applied["acq"]
    if acq.get("trigger_mode", "internal") != "internal":
        return False
    period_s = (int(acq.get("expo_time", 0)) + int(acq.get("latency_time", 0))) * 1e-6
    return time.monotonic() - run.moved_s >= max(SILENCE_S, 3 * period_s)
