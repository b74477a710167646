"""What the answers of the control mean for a run, by how far it is."""

from types import SimpleNamespace

import pytest

from lima2_core.errors import CameraError
from lima2_core.state.device import AcqState
from lima2_core.state.system import Phase
from lima2_core.system.detector import failure_of
from lima2_core.system.ports import ControlStatus

FAILED = ControlStatus(AcqState.FAULT, 3, "it died")
NO_ANSWER = CameraError("it did not answer")


def run(phase=Phase.RUNNING, *, interrupted=False, short=True):
    acq = {"trigger_mode": "internal", "expo_time": 1000, "latency_time": 0}
    view = SimpleNamespace(applied={"acq": acq})
    return SimpleNamespace(
        phase=phase, interrupted=interrupted, short=short, view=view, moved_s=0.0
    )


@pytest.mark.parametrize("news", [FAILED, NO_ANSWER])
def test_a_run_that_goes_on_fails_with_its_detector(news):
    assert failure_of(run(), "control", news) is not None


@pytest.mark.parametrize("news", [FAILED, NO_ANSWER])
def test_a_run_that_was_told_to_end_does_not_fail_any_more(news):
    """Its receivers may still be at work, and the control is asked as long as they are."""
    assert failure_of(run(interrupted=True), "control", news) is None


def test_a_run_that_has_all_its_frames_does_not_fail_any_more():
    assert failure_of(run(short=False), "control", FAILED) is None


def test_a_control_that_does_not_answer_at_the_end_is_no_failure_of_the_detector():
    assert failure_of(run(Phase.DRAINING), "control", NO_ANSWER) is None
    assert str(failure_of(run(Phase.DRAINING), "control", FAILED)) == "control: it died"
