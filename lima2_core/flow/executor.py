"""Runs a pipeline: workers for the chain, a thread for each lane with a queue, drain and end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from lima2_core.data.frame import Frame, Gap, Validity
from lima2_core.errors import Lima2Error, PipelineError
from lima2_core.flow.channel import Channel, ChannelClosedError, ChannelStats
from lima2_core.flow.ordering import Ordering
from lima2_core.flow.pipeline import INPUT, OUTPUT, Joint, Lane, Pipeline, Result, Stage
from lima2_core.flow.sink import Row
from lima2_core.flow.task import Reduction, Task
from lima2_core.ids import LocalIdx
from lima2_core.worker import Worker, let_go

log = logging.getLogger(__name__)

_BATCH_BYTES = 2**18
_BATCH_MOST = 64
_IDLE_S = 0.25


def batch_frames(frame_bytes: int) -> int:
    """Frames that a worker takes at once: large ones one by one, so that all cores have some."""
    return max(1, min(_BATCH_MOST, _BATCH_BYTES // max(1, frame_bytes)))


def frames_in_flight(workers: int, frame_bytes: int) -> int:
    """Frames at most between the queue and the lanes: being worked on, or waiting for their turn.

    While one batch takes long, `_room` of the others may wait for it, and each other worker may
    still bring the one that it has begun.
    """
    workers = max(1, workers)
    return (_room(workers) + workers) * batch_frames(frame_bytes)


def _room(workers: int) -> int:
    return workers + 2


@dataclass(frozen=True, slots=True)
class ExecutorStats:
    """A snapshot of the queues of a run: where it waits, if it waits."""

    queue: ChannelStats
    lanes: Mapping[str, ChannelStats]
    out_of_order: int


class Executor:
    """Takes frames and gaps from a channel through a pipeline until the channel ends.

    A task, a joint or a sink that fails ends the processing: the first error goes to
    ``on_failure``, the frames that still come pass through as gaps, lanes that work end well, and
    ``on_done`` is called as always. So nothing hangs, and what was taken stays readable.

    Args:
        pipeline: opened.
        source: the frames and gaps, in local order.
        workers: threads of the chain.
        on_failure: called once at most, from any thread.
        on_done: called once, from the last thread, when everything has ended and is closed.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        source: Channel[Frame | Gap],
        workers: int,
        on_failure: Callable[[Lima2Error], None],
        on_done: Callable[[], None],
    ) -> None:
        self._pipeline = pipeline
        self._source = source
        self._on_failure = on_failure
        self._on_done = on_done
        self._batch = batch_frames(pipeline.input_spec.nbytes)
        self._failed = False
        self._lock = threading.Lock()
        self._lanes: dict[Lane, _DirectLane | _LaneThread] = {
            lane: (_LaneThread if lane.depth else _DirectLane)(lane, self._fail)
            for lane in pipeline.lanes
        }
        self._next_group = 0
        self._running = max(1, workers)
        room = _room(self._running)
        self._first = Ordering[Result](partial(self._deliver, pipeline.first), room)
        self._second = Ordering[Result](partial(self._deliver, pipeline.second or Stage()), room)
        self._workers = [
            Worker(f"chain-{n}", self._work, self._escaped) for n in range(self._running)
        ]

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until everything has ended; False if ``timeout_s`` passed first."""
        return all(worker.join(timeout_s) for worker in self._workers)

    def stats(self) -> ExecutorStats:
        return ExecutorStats(
            self._source.stats(),
            {
                lane.name: thread.queue.stats()
                for lane, thread in self._lanes.items()
                if isinstance(thread, _LaneThread)
            },
            self._first.waiting + self._second.waiting,
        )

    def _work(self) -> None:
        """Run one worker: batches through the chain until the channel ends."""
        while True:
            self._first.wait_for_room()
            self._second.wait_for_room()
            try:
                at, items = self._source.receive(self._batch)
            except ChannelClosedError:
                break
            self._take(at, items)
            items = []  # nothing stays leased while waiting for the next
        self._leave()

    def _escaped(self, error: BaseException) -> None:
        """Report what no task and no sink raised: an error of this module itself."""
        self._fail(PipelineError(f"processing broke off: {type(error).__name__}: {error}"))
        log.error("a processing thread ended by an error", exc_info=error)
        self._source.break_off()
        # What this thread had taken never comes, so nobody may wait for it.
        self._first.clear()
        self._second.clear()
        self._leave()

    def _leave(self) -> None:
        """End one worker; the last one ends everything."""
        with self._lock:
            self._running -= 1
            last = self._running == 0
        if last:
            self._finish()

    def _take(self, at: int, items: Sequence[Frame | Gap]) -> None:
        stage, joint = self._pipeline.first, self._pipeline.joint
        reductions = len(stage.reductions)
        results = [self._run(stage.tasks, reductions, item) for item in items]
        if joint is None:
            self._first.put(at, results)
            return
        for n, result in enumerate(results, start=at):
            try:
                joint.add(n // joint.depth, result.item)
            except Exception as error:  # noqa: BLE001  joints are foreign code; it is reported
                self._fail(_joint_error(n // joint.depth, error))
        self._first.put(at, results)
        self._run_groups(joint, joint.depth)

    def _run_groups(self, joint: Joint, complete: int) -> None:
        """Take the groups whose rows have all been handed on through the second stage.

        ``complete`` rows make a group worth taking: its depth, or 1 at the end of the stream.
        """
        second = self._pipeline.second
        assert second is not None
        while True:
            with self._lock:
                group = self._next_group
                if self._first.delivered < group * joint.depth + complete:
                    return
                self._next_group += 1
            item: Frame | Gap
            try:
                item = joint.finish(group)
            except Exception as error:  # noqa: BLE001  joints are foreign code; it is reported
                self._fail(_joint_error(group, error))
                item = Gap(joint.index(group), Validity.PROCESSING_FAULT, "processing had failed")
            self._second.put(group, [self._run(second.tasks, len(second.reductions), item)])

    def _run(self, tasks: Sequence[Task], reductions: int, item: Frame | Gap) -> Result:
        """One row through the tasks of a stage."""
        if isinstance(item, Gap):
            return Result(item.idx, item, item, [item] * reductions)
        if not self._failed:
            frame = item
            products: list[object] = []
            for task in tasks:
                try:
                    if isinstance(task, Reduction):
                        products.append(task.process(frame))
                    else:
                        frame = task.process(frame)
                except Exception as error:  # noqa: BLE001  tasks are foreign code; it is reported
                    self._fail(_task_error(task, item, error))
                    break
            else:
                return Result(item.idx, item, frame, products)
        gap = Gap(item.idx, Validity.PROCESSING_FAULT, "processing had failed")
        return Result(item.idx, item, gap, [gap] * reductions)

    def _deliver(self, stage: Stage, at: int, results: Sequence[Result]) -> None:
        """Hand rows to the lanes of a stage; one thread at a time, in order."""
        for lane in stage.lanes:
            self._lanes[lane].take(_rows(stage, lane, at, results))
        for counter in stage.counters:
            counter.value += len(results)

    def _fail(self, error: Lima2Error) -> None:
        with self._lock:
            if self._failed:
                return
            self._failed = True
        self._on_failure(error)

    def _finish(self) -> None:
        """End the lanes; on the last worker."""
        joint = self._pipeline.joint
        if joint is not None:
            self._run_groups(joint, 1)
        for lane in self._lanes.values():
            lane.close()
        for lane in self._lanes.values():
            lane.join()
        self._first.clear()
        self._second.clear()
        on_done = self._on_done
        self._part()
        on_done()

    def _part(self) -> None:
        """Keep nothing that leads back here or to the run: rings stay in memory for long."""
        self._on_done = lambda: None
        self._on_failure = lambda error: None
        for lane in self._lanes.values():
            lane.fail = self._on_failure


class _DirectLane:
    """Serves one lane on the thread that delivers."""

    def __init__(self, lane: Lane, fail: Callable[[Lima2Error], None]) -> None:
        self._lane = lane
        self.fail = fail
        self._ended = False

    def take(self, rows: Sequence[Row]) -> None:
        """Hand rows to the sink; none any more after it failed."""
        if self._ended:
            return
        try:
            self._lane.sink.write(rows)
        except Exception as error:  # noqa: BLE001  sinks are foreign code; it is reported
            self._give_up(error)

    def close(self) -> None:
        """End well, if it has not ended yet."""
        if self._ended:
            return
        try:
            self._lane.sink.close()
        except Exception as error:  # noqa: BLE001  sinks are foreign code; it is reported
            self._give_up(error)

    def join(self) -> None:
        """Nothing to wait for."""

    def _give_up(self, error: Exception) -> None:
        self._ended = True
        let_go(error)
        self.fail(_sink_error(self._lane, error))
        self._lane.sink.abort()


class _LaneThread:
    """Serves one lane from a queue."""

    def __init__(self, lane: Lane, fail: Callable[[Lima2Error], None]) -> None:
        self.queue: Channel[Row] = Channel(lane.depth)
        self._lane = lane
        self.fail = fail
        self._worker = Worker(f"lane-{lane.name}", self._serve, self._escaped)

    def take(self, rows: Sequence[Row]) -> None:
        """Queue rows; waits for room."""
        self.queue.send(rows)

    def close(self) -> None:
        """Let no more rows come."""
        self.queue.close()

    def join(self) -> None:
        """Wait until the sink has ended."""
        self._worker.join()

    def _serve(self) -> None:
        sink = self._lane.sink
        while True:
            try:
                _, rows = self.queue.receive(self._lane.depth, _IDLE_S)
            except ChannelClosedError:
                break
            if rows:
                sink.write(rows)
                rows = []
            else:
                sink.idle()
        sink.close()

    def _escaped(self, error: BaseException) -> None:
        """Keep what was written, and go on emptying the queue so that nobody waits for it."""
        self.fail(_sink_error(self._lane, error))
        self._lane.sink.abort()
        while True:
            try:
                self.queue.receive(self._lane.depth)
            except ChannelClosedError:
                return


def _rows(stage: Stage, lane: Lane, at: int, results: Sequence[Result]) -> list[Row]:
    if lane.carries is INPUT:
        return [Row(LocalIdx(n), r.idx, r.source) for n, r in enumerate(results, at)]
    if lane.carries is OUTPUT:
        return [Row(LocalIdx(n), r.idx, r.item) for n, r in enumerate(results, at)]
    place = stage.place(lane)
    assert place is not None
    return [Row(LocalIdx(n), r.idx, r.products[place]) for n, r in enumerate(results, at)]


def _task_error(task: Task, item: Frame, error: Exception) -> Lima2Error:
    let_go(error)
    wrapped = PipelineError(
        f"{task.name} failed on frame {item.idx}: {error}", task=task.name, frame_idx=item.idx
    )
    wrapped.__cause__ = error
    return wrapped


def _joint_error(group: int, error: Exception) -> Lima2Error:
    let_go(error)
    wrapped = PipelineError(
        f"frames of group {group} could not be joined: {error}", task="joint", group=group
    )
    wrapped.__cause__ = error
    return wrapped


def _sink_error(lane: Lane, error: BaseException) -> Lima2Error:
    if isinstance(error, Lima2Error):
        return error
    wrapped = PipelineError(f"{lane.name} failed: {type(error).__name__}: {error}", task=lane.name)
    wrapped.__cause__ = error
    return wrapped
