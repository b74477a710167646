"""Merging the records of ten receivers: how much of a core it takes.

Ten receivers at 1 kHz with twenty regions each tell in blocks of bytes, as they cross processes;
the records themselves were made beforehand. What is measured is the whole process: blocks (their
making included, though it is the work of the receivers), ledger, merger, coordinator, one reader.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np

from benchmarks import Result, result
from lima2_core.data.frame import Frame
from lima2_core.data.news import pack, unpack
from lima2_core.data.record import RecordSpec
from lima2_core.data.rows import LEDGER
from lima2_core.errors import NotAvailableError
from lima2_core.state.system import Phase
from lima2_core.system.coordinator import Coordinator
from lima2_core.system.outputs import RunOutput, RunView
from lima2_core.system.ports import RunDescription, RunNews, RunOrder
from lima2_core.system.wire import status_from_tree, status_to_tree
from lima2_core.testing.system_doubles import ScriptedControl, ScriptedReceiver, ScriptedRun
from lima2_core.testing.system_script import describe, order, rows
from processing.kernels.regions import ROI_RECORD

RECEIVERS = 10
RATE_HZ = 1000
REGIONS = 20
DURATION_S = 5.0
STREAM = "roi_statistics"


class TimedRun(ScriptedRun):
    """A run that gives frames by the clock, from its start on."""

    def __init__(self, receiver: TimedReceiver, order: RunOrder) -> None:
        super().__init__(receiver.manners, order, receiver.description)
        self._receiver = receiver
        self._done = 0

    def news(self) -> RunNews:
        receiver = self._receiver
        if receiver.started_s is None:
            return RunNews(self.status, {})
        due = int((time.perf_counter() - receiver.started_s) * RATE_HZ)
        first, self._done = self._done, min(due, receiver.nb_frames)
        if self._done == receiver.nb_frames:
            self.status = replace(self.status, state="done", finished=True)
        here = slice(first, self._done)
        of_regions = slice(first * REGIONS, self._done * REGIONS)
        arrays = {LEDGER: receiver.rows[here], STREAM: receiver.records[of_regions]}
        tree, records = unpack(pack(status_to_tree(self.status), arrays))
        return RunNews(status_from_tree(tree), records)

    def frame(self, source: str, idx: int, step: int = 1) -> Frame:
        raise NotAvailableError("there are no frames here")


class TimedReceiver(ScriptedReceiver):
    """A receiver whose records are made beforehand."""

    def __init__(self, number: int, nb_frames: int) -> None:
        description: RunDescription = replace(
            describe(), streams={STREAM: RecordSpec(STREAM, ROI_RECORD, REGIONS)}
        )
        super().__init__(f"r{number}", description)
        self.nb_frames = nb_frames
        indices = np.arange(number, nb_frames * RECEIVERS, RECEIVERS)
        self.rows = rows(*indices)
        self.records = np.ones(nb_frames * REGIONS, ROI_RECORD)
        self.records["frame_idx"] = np.repeat(indices, REGIONS)
        self.records["recv_idx"] = number
        self.started_s: float | None = None

    def prepare(self, order: RunOrder) -> ScriptedRun:
        self.runs.append(TimedRun(self, order))
        return self.run

    def start(self) -> None:
        super().start()
        self.started_s = time.perf_counter()


class Reader(RunOutput):
    """Reads the merged records as they come."""

    def __init__(self) -> None:
        self.frames = 0
        self.in_order = True
        self.finished = threading.Event()

    def open(self, run: RunView) -> None:
        self._cursor = run.streams[STREAM].cursor()

    def update(self) -> None:
        told = self._cursor.read()["frame_idx"][::REGIONS]
        expected = np.arange(self.frames, self.frames + len(told))
        self.in_order = self.in_order and bool(np.array_equal(told, expected))
        self.frames += len(told)

    def finish(self) -> None:
        self.update()
        self.finished.set()


def main() -> list[Result]:
    """Merge for some seconds; the share of a core that it took."""
    nb_frames = int(DURATION_S * RATE_HZ)
    receivers = [TimedReceiver(number, nb_frames) for number in range(RECEIVERS)]
    reader = Reader()
    coordinator = Coordinator(ScriptedControl(), receivers, lambda: (reader,))
    run = coordinator.prepare(order(nb_frames * RECEIVERS))
    coordinator.start()
    cpu_s, start_s = time.process_time(), time.perf_counter()
    longest_lag = 0
    never = threading.Event()
    while not reader.finished.wait(0.1):
        due = min(int((time.perf_counter() - start_s) * RATE_HZ), nb_frames) * RECEIVERS
        longest_lag = max(longest_lag, due - run.ledger.front)
    wall_s, used_s = time.perf_counter() - start_s, time.process_time() - cpu_s
    while run.phase is not Phase.DONE:
        never.wait(0.01)
    coordinator.close()
    assert reader.in_order
    assert reader.frames == nb_frames * RECEIVERS
    return [
        result(
            "merge.10_receivers_1_kHz_20_regions", 100 * used_s / wall_s, "% of a core", at_most=30
        ),
        result("merge.lag", longest_lag / RATE_HZ / RECEIVERS * 1000, "ms", at_most=500),
    ]
