"""A system of two receivers in one process: how fast it starts, and acquisitions in a row.

The next acquisition is prepared as soon as the system is at rest; the one before may still be
ending. Nothing may be left behind by a thousand of them.
"""

from __future__ import annotations

import gc
import os
import queue
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from benchmarks import Result, result
from lima2_core import registry
from lima2_core.camera.api import CameraEnv
from lima2_core.camera.dispatch import Share
from lima2_core.ids import ReceiverIdx
from lima2_core.service.control import ControlService
from lima2_core.service.events import RunFinished, ServiceEvent, StateChanged
from lima2_core.service.link import FanOut
from lima2_core.service.receiver import ReceiverService, ReceiverSettings
from lima2_core.state.device import AcqState
from lima2_core.state.system import Phase
from lima2_core.system.coordinator import Coordinator
from lima2_core.system.local import LocalControl, LocalReceiver
from lima2_core.system.run import SystemOrder, SystemRun
from lima2_core.worker import Worker

RECEIVERS = 2
ACQUISITIONS = int(os.environ.get("LIMA2_BENCH_ACQUISITIONS", "1000"))
WARM_UP = max(20, ACQUISITIONS // 10)
PREPARES = 40
LIMIT_S = 10.0


Events: TypeAlias = "queue.SimpleQueue[ServiceEvent | None]"


@dataclass(frozen=True, slots=True)
class System:
    """A coordinator, and what it tells."""

    coordinator: Coordinator
    events: Events

    def until(self, event: ServiceEvent) -> None:
        """Wait for an event; those before it are dropped."""
        while self.events.get(timeout=LIMIT_S) != event:
            pass

    def begin(self) -> SystemRun:
        """Prepare and start."""
        run = self.coordinator.prepare(order(2))
        self.coordinator.start()
        return run


@contextmanager
def system(rows: int) -> Iterator[System]:
    """Two receivers of the simulated detector, with square images."""
    plugin = registry.load(registry.CAMERAS, "Simulator")
    env = CameraEnv({"rows": str(rows), "cols": str(rows)})
    settings = ReceiverSettings(workers=2, memory_bytes=2**30)
    receivers = [
        ReceiverService(f"r{n}", plugin, env, partial(_share, n), settings)
        for n in range(RECEIVERS)
    ]
    link = FanOut({one.name: one.deliver for one in receivers}, lambda name, error: None)
    control = ControlService("control", plugin, env, link, lambda: RECEIVERS)
    told: Events = queue.SimpleQueue()
    coordinator = Coordinator(
        LocalControl(control), [LocalReceiver(one) for one in receivers], tell=told.put
    )
    for events in (control.events, *(one.events for one in receivers)):
        Worker("events", partial(_drop_all, events))
    try:
        yield System(coordinator, told)
    finally:
        coordinator.close()
        control.close()
        for one in receivers:
            one.close()
        link.close()


def _drop_all(events: Events) -> None:
    """Read what nobody else does."""
    while events.get() is not None:
        pass


def _share(number: int) -> Share:
    return Share(ReceiverIdx(number), RECEIVERS)


def order(nb_frames: int) -> SystemOrder:
    """A short acquisition with a region."""
    rect = {"topleft": {"x": 1, "y": 1}, "dimensions": {"x": 20, "y": 20}}
    return SystemOrder(
        {"acq": {"nb_frames": nb_frames, "expo_time": 100, "latency_time": 0}},
        {
            "class_name": "LimaProcessingLegacy",
            "statistics": {"enabled": True, "rect_rois": [rect]},
        },
    )


def prepare_and_start(here: System) -> float:
    """Median seconds from the order to the start of the detector."""
    taken: list[float] = []
    for _ in range(PREPARES):
        start_s = time.perf_counter()
        run = here.begin()
        taken.append(time.perf_counter() - start_s)
        here.until(RunFinished(run.acq_id))
    return statistics.median(taken)


def one_after_the_other(here: System, count: int) -> list[SystemRun]:
    """Acquire; each as soon as the system is at rest after the one before."""
    last: list[SystemRun] = []
    for _ in range(count):
        run = here.begin()
        here.until(StateChanged(AcqState.IDLE))
        last = [*last[-3:], run]
    never = threading.Event()
    while last[-1].phase not in (Phase.DONE, Phase.INCOMPLETE):
        never.wait(0.01)
    return last


def _held() -> dict[str, int]:
    """What the process holds."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "memory": resident,
    }


def main() -> list[Result]:
    """Measure the start, then a row of acquisitions and what it leaves behind."""
    with system(2048) as large:
        start_s = prepare_and_start(large)
    with system(64) as small:
        one_after_the_other(small, WARM_UP)
        before = _held()
        began_s = time.perf_counter()
        runs = one_after_the_other(small, ACQUISITIONS)
        elapsed_s = time.perf_counter() - began_s
        assert all(run.phase is Phase.DONE for run in runs)
        after = _held()
    grown = {name: after[name] - before[name] for name in before}
    return [
        result("system.prepare_and_start", 1000 * start_s, "ms", at_most=150),
        result("system.acquisitions_of_2_frames", ACQUISITIONS / elapsed_s, "1/s", at_least=5),
        result("system.threads_left", grown["threads"], "threads", at_most=0),
        result("system.files_left", grown["files"], "files", at_most=0),
        result("system.memory_left", grown["memory"] / 1e6, "MB", at_most=10),
    ]
