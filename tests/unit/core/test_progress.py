"""Rates and levels of a run, with time in our own hands."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from lima2_core.data.frame import FrameSpec, Validity
from lima2_core.system.ledger import Ledger
from lima2_core.system.ports import RunStatus
from lima2_core.system.progress import ProgressMeter

SPEC = FrameSpec((1, 10, 10), np.dtype(np.uint16))


class FakeRun(SimpleNamespace):
    @property
    def received(self):
        return sum(m.status.received for m in self.members if m.status) // self.layout.parts

    def counter(self, name):
        return sum(m.status.counters.get(name, 0) for m in self.members if m.status)


@pytest.fixture
def run():
    return FakeRun(
        expected=1000,
        exposed=0,
        started_wall_s=0.0,
        ledger=Ledger(1000),
        layout=SimpleNamespace(parts=1),
        descriptions=[SimpleNamespace(input_spec=SPEC)] * 2,
        members=[SimpleNamespace(name=name, status=None) for name in ("r0", "r1")],
    )


def tell(run, receiver, received, queue=0, memory=0, **counters):
    run.members[receiver].status = RunStatus(
        state="running",
        finished=False,
        received=received,
        lost=0,
        counters=counters,
        flushed={},
        queues={"camera": (queue, 100), "saving": (0, 10)},
        memory_bytes=memory,
        memory_limit_bytes=1000,
    )


def test_rates_are_those_of_the_last_seconds(run):
    meter = ProgressMeter(run)
    run.started_wall_s = 1.0
    for second in range(6):
        for receiver in (0, 1):
            tell(run, receiver, 50 * second, nb_frames_processed=40 * second)
        now = meter.update(float(second))

    assert now.received == 500
    assert now.processed == 400
    assert now.rate_hz == pytest.approx(100)
    assert now.rate_bytes_s == pytest.approx(100 * SPEC.nbytes)
    assert now.mean_rate_hz == pytest.approx(100)
    for second in range(6, 10):
        now = meter.update(float(second))
    assert now.rate_hz == 0
    assert now.mean_rate_hz == pytest.approx(100)


def test_a_growing_queue_tells_when_it_will_be_full(run):
    meter = ProgressMeter(run)
    for second in range(3):
        tell(run, 0, 0, queue=20 + 10 * second)
        tell(run, 1, 0, queue=5, memory=250)
        now = meter.update(float(second))

    assert now.queue_percent == 40
    assert now.memory_percent == 25
    assert now.time_to_overrun_s == pytest.approx(6)
    assert meter.bottleneck == ""
    tell(run, 0, 0, queue=96)
    meter.update(3.0)
    assert meter.bottleneck == "camera"


def test_without_news_there_is_nothing_to_fear(run):
    now = ProgressMeter(run).update(0.0)

    assert (now.received, now.rate_hz, now.queue_percent, now.percent) == (0, 0, 0, 0)
    assert now.time_to_overrun_s == math.inf


def test_lost_frames_are_settled_and_frames_never_sent_are_not(run):
    run.ledger.lose(np.arange(10), Validity.DROPPED)
    run.ledger.lose(np.arange(10, 20), Validity.NEVER_SENT)

    now = ProgressMeter(run).update(0.0)

    assert (now.lost, now.settled, now.percent) == (10, 10, 1.0)


def test_pipelines_without_a_counter_of_their_own_count_what_entered(run):
    tell(run, 0, 5, nb_frames_source=5)

    assert ProgressMeter(run).update(0.0).processed == 5
