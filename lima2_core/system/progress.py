"""How far a run is, how fast it goes, and when its queues will be full."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lima2_core.data.frame import Validity
from lima2_core.system.ports import RunStatus
from lima2_core.system.run import SystemRun

_FULL = 95.0
WINDOW_S = 2.0
"""Rates are those of the last seconds."""
_PROCESSED = "nb_frames_processed"
_SOURCE = "nb_frames_source"
_SAVED = "nb_frames_saved"


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot. Counts are frames of the detector, but for ``processed`` and ``saved``."""

    expected: int | None = None
    """None: until it is stopped."""
    exposed: int = 0
    received: int = 0
    processed: int = 0
    saved: int = 0
    lost: int = 0
    settled: int = 0
    """Frames that are there or known to be missing, without those that were never sent."""
    rate_hz: float = 0.0
    """Frames per second that the receivers take."""
    rate_bytes_s: float = 0.0
    mean_rate_hz: float = 0.0
    """From the start to the last frame."""
    queue_percent: float = 0.0
    """Of the fullest queue of all receivers."""
    memory_percent: float = 0.0
    """Of the receiver that has least left."""
    time_to_overrun_s: float = math.inf
    """When the first queue will be full if it goes on like this; infinite if none is growing."""

    @property
    def percent(self) -> float:
        """Frames of which it is known what became of them; 0 if the number is not known."""
        return 100.0 * min(1.0, self.settled / self.expected) if self.expected else 0.0


@dataclass(frozen=True, slots=True)
class _Sample:
    now_s: float
    received: int
    levels: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


class ProgressMeter:
    """Looks at a run again and again.

    Threads: `update` by one at a time; `progress` from any.
    """

    def __init__(self, run: SystemRun) -> None:
        self._run = run
        self._samples: deque[_Sample] = deque()
        self._first_s: float | None = None
        self._last_s = 0.0
        self._received = 0
        self.bottleneck = ""
        """The queue that was full when it was looked at last; the last one of the flow."""
        self.progress = Progress(expected=run.expected)

    def update(self, now_s: float) -> Progress:
        """Look now."""
        run = self._run
        statuses = {m.name: m.status for m in run.members if m.status is not None}
        received = run.received
        if self._first_s is None and run.started_wall_s:
            self._first_s = self._last_s = now_s
        if received != self._received:
            self._received, self._last_s = received, now_s
        self._samples.append(_Sample(now_s, received, _levels(statuses)))
        full = [queue for (_, queue), pair in _levels(statuses).items() if _percent(*pair) >= _FULL]
        self.bottleneck = full[-1] if full else self.bottleneck
        while len(self._samples) > 2 and self._samples[1].now_s <= now_s - WINDOW_S:
            self._samples.popleft()
        first, last = self._samples[0], self._samples[-1]
        span_s = last.now_s - first.now_s
        rate_hz = (last.received - first.received) / span_s if span_s > 0 else 0.0
        taken_s = self._last_s - self._first_s if self._first_s is not None else 0.0
        summary = run.ledger.summary()
        self.progress = Progress(
            expected=run.expected,
            exposed=run.exposed,
            received=received,
            processed=processed_of(run),
            saved=run.counter(_SAVED) // run.layout.parts,
            lost=summary.lost,
            settled=sum(summary.counts.values()) - summary.counts.get(Validity.NEVER_SENT, 0),
            rate_hz=rate_hz,
            rate_bytes_s=rate_hz * frame_bytes(run),
            mean_rate_hz=received / taken_s if taken_s > 0 else 0.0,
            queue_percent=max((_percent(*pair) for pair in last.levels.values()), default=0.0),
            memory_percent=max(
                (_percent(s.memory_bytes, s.memory_limit_bytes) for s in statuses.values()),
                default=0.0,
            ),
            time_to_overrun_s=_time_to_overrun(first, last),
        )
        return self.progress

    def rest(self) -> None:
        """Nothing will move any more: counts stay, present rates and levels are gone."""
        self.progress = replace(
            self.progress,
            rate_hz=0.0,
            rate_bytes_s=0.0,
            queue_percent=0.0,
            time_to_overrun_s=math.inf,
        )


def processed_of(run: SystemRun) -> int:
    """Frames that have left the pipelines of all receivers."""
    counted = any(m.status is not None and _PROCESSED in m.status.counters for m in run.members)
    return run.counter(_PROCESSED if counted else _SOURCE) // run.layout.parts


def frame_bytes(run: SystemRun) -> int:
    """Bytes of one whole frame as it comes from the detector."""
    each = [description.input_spec.nbytes for description in run.descriptions]
    return sum(each) if run.layout.parts > 1 else each[0]


def _levels(statuses: Mapping[str, RunStatus]) -> dict[tuple[str, str], tuple[int, int]]:
    return {
        (receiver, queue): pair
        for receiver, status in statuses.items()
        for queue, pair in status.queues.items()
    }


def _percent(level: float, capacity: float) -> float:
    return 100.0 * level / capacity if capacity else 0.0


def _time_to_overrun(first: _Sample, last: _Sample) -> float:
    span_s = last.now_s - first.now_s
    times = [math.inf]
    for key, (level, capacity) in last.levels.items():
        grown = level - first.levels.get(key, (level, capacity))[0]
        if span_s > 0 and grown > 0 and capacity:
            times.append(max(0, capacity - level) / (grown / span_s))
    return min(times)
