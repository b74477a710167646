"""What a front tells of a run."""

from types import SimpleNamespace

import numpy as np
import pytest

from lima2_core.data.frame import FrameSpec
from lima2_core.state.system import Phase
from lima2_core.system.ledger import Ledger
from lima2_core.system.ports import RunStatus
from tango_servers.front_run import FrontRun

NB_FRAMES = 24


@pytest.fixture
def run():
    """A deferred run of one receiver, while it takes its last frames."""
    status = RunStatus(
        state="draining",
        finished=False,
        received=NB_FRAMES,
        lost=0,
        counters={},
        flushed={},
        queues={},
        memory_bytes=0,
        memory_limit_bytes=1000,
    )
    return SimpleNamespace(
        phase=Phase.RUNNING,
        view=SimpleNamespace(
            streams={},
            applied={"acq": {"trigger_mode": "internal", "expo_time": 1, "latency_time": 0}},
        ),
        ledger=Ledger(NB_FRAMES),
        layout=SimpleNamespace(known=True, parts=1),
        members=[SimpleNamespace(name="r0", status=status, asked_s=0.0, lost="", ended=False)],
        descriptions=[SimpleNamespace(input_spec=FrameSpec((1, 10, 10), np.dtype(np.uint16)))],
        expected=NB_FRAMES,
        exposed=NB_FRAMES,
        received=NB_FRAMES,
        doubt="",
        counter=lambda name: 0,
        started_wall_s=1.0,
        order=SimpleNamespace(deferred=True),
        outputs=SimpleNamespace(threads=()),
    )


def test_what_was_seen_in_another_phase_is_not_told_as_of_this_one(run):
    front_run = FrontRun("run1", "id00/limarun/run1")
    front_run.attach(run)
    before = front_run.stuck

    run.phase = Phase.DRAINING  # in less time than it takes to look again

    assert before == ""
    assert front_run.stuck == "24 frames are collected; processAcq begins to process them"
