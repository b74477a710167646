"""Everything of one acquisition on one receiver, built and torn down together.

A run is never reset: a new acquisition is a new run, and any number of earlier ones may still be
processing or saving beside it (G5, P8).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lima2_core.camera.api import CameraMessage, CameraReceiver, FrameSource
from lima2_core.data.frame import Frame, Gap, Validity
from lima2_core.data.memory import PoolSet
from lima2_core.data.record import RecordSpec, RecordStream
from lima2_core.data.rows import LEDGER, ROW_RECORD, RowSink, gap_rows
from lima2_core.errors import Lima2Error, PipelineError
from lima2_core.flow.channel import Channel
from lima2_core.flow.executor import Executor, ExecutorStats
from lima2_core.flow.pipeline import OUTPUT, Lane, Pipeline
from lima2_core.flow.plugin import BuildContext, check_declared
from lima2_core.ids import AcqId
from lima2_core.service.acquisition import Acquisition
from lima2_core.service.request import PrepareRequest, RunParams
from lima2_core.state.run import Event, RunState, run_machine
from lima2_core.worker import Worker

log = logging.getLogger(__name__)

_LIVE = (RunState.RUNNING, RunState.DRAINING)
_DEFERRED_FRAMES = 100_000
"""Frames collected by an endless acquisition before its processing begins by itself."""


@dataclass(frozen=True, slots=True)
class RunHooks:
    """Whom a run tells what; called on threads of the run, must return at once."""

    acquired: Callable[[Run, Lima2Error | None], None]
    failed: Callable[[Run, Lima2Error], None]
    processed: Callable[[Run], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that was resolved and could be opened; it has no effects."""

    request: PrepareRequest
    source: FrameSource
    pipeline: Pipeline
    params: RunParams


def plan_run(
    request: PrepareRequest,
    camera: CameraReceiver,
    pools: PoolSet,
    workers: int,
    allowed_commands: tuple[str, ...] = (),
) -> Plan:
    """Resolve source and pipeline for a request, and refuse what cannot be done.

    Raises:
        ParamError: a parameter is wrong; nothing has been changed.
    """
    source = camera.source(request.source)
    spec = source.resolve()
    expected = source.expected_frames()
    context = BuildContext(
        acq_id=request.acq_id,
        spec=spec,
        share=request.share,
        acquisition=request.acquisition,
        pools=pools,
        workers=workers,
        keeps_rows=source.keeps_rows,
        parts=source.placement is not None,
        placement=source.placement,
        fill=source.fill,
        spare_frames=source.spare_frames(pools),
        nb_expected=expected,
        metadata=request.metadata,
        allowed_commands=allowed_commands,
        frame_fields=source.frame_fields,
    )
    pipeline = request.pipeline.build(request.processing, context)
    check_declared(request.pipeline, pipeline)
    params = RunParams(
        request.acquisition,
        request.processing,
        spec,
        pipeline.output_spec,
        request.share,
        expected,
        workers,
    )
    return Plan(request, source, pipeline, params)


def _capacity(plan: Plan) -> int:
    """Frames that may wait for the chain; all of them, where the processing is deferred."""
    queue = plan.pipeline.queue_frames
    if not plan.request.deferred:
        return queue
    return max(queue, plan.params.nb_expected or _DEFERRED_FRAMES)


class Run:
    """One acquisition: source, channel, pipeline, and the threads that work on it.

    Threads: `start`, `interrupt`, `discard` from the owner only; the rest from any.
    """

    def __init__(self, plan: Plan, pools: PoolSet, hooks: RunHooks) -> None:
        self.acq_id: AcqId = plan.request.acq_id
        self.plugin = plan.request.pipeline
        self.params = plan.params
        self.pipeline = plan.pipeline
        self.error: Lima2Error | None = None
        self.finished = False
        """Set by the service once clients may be told."""
        self._hooks = hooks
        self._machine = run_machine(plan.request.acq_id)
        self._source = plan.source
        self.keeps_rows = plan.source.keeps_rows
        """Whether a gap keeps its row."""
        self.placement = plan.source.placement
        """Where the frames lie in those of the system, if they are only parts."""
        ledger = RecordStream(RecordSpec(LEDGER, ROW_RECORD))
        self.streams: Mapping[str, RecordStream] = {**plan.pipeline.streams, LEDGER: ledger}
        """Records of the run by name, those of the ledger among them."""
        first = plan.pipeline.first
        lanes = (*first.lanes, Lane(LEDGER, RowSink(ledger), OUTPUT))
        plan.pipeline.first = replace(first, lanes=lanes)
        self._deferred = plan.request.deferred
        self._channel: Channel[Frame | Gap] = Channel(
            _capacity(plan),
            plan.source.on_full,
            lambda item: Gap(item.idx, Validity.OVERRUN, "the queue was full"),
        )
        self._acquisition = Acquisition(
            self.acq_id,
            plan.source,
            self._channel,
            on_items=self._mind_memory if self._deferred else None,
            on_rowless=lambda gaps: ledger.append(gap_rows(gaps)),
        )
        self._executor: Executor | None = None
        self._executor_lock = threading.Lock()
        self._worker: Worker | None = None
        plan.pipeline.open()
        try:
            plan.source.open(pools)
        except BaseException:
            self._close_unused()
            raise
        self.fill = plan.source.fill
        """What pixels of the camera read that never came."""
        self.remarks = plan.source.remarks
        """What users should know before the start."""
        self.prepared_s = time.monotonic()

    @property
    def state(self) -> RunState:
        return self._machine.state

    @property
    def received(self) -> int:
        """Frames taken from the camera."""
        return self._acquisition.received

    @property
    def lost(self) -> int:
        """Frames known to be missing."""
        return self._acquisition.lost

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The first of them."""
        return tuple(self._acquisition.gaps)

    def progress(self) -> Mapping[str, int]:
        """Counters of the pipeline by the name clients know."""
        return self.pipeline.progress()

    def stats(self) -> ExecutorStats | None:
        """Levels of the queues; None before the start."""
        return self._executor.stats() if self._executor is not None else None

    def deliver(self, message: CameraMessage) -> None:
        """Take a message of the control part of the camera."""
        if message.acq_id == self.acq_id:
            self._source.deliver(message)

    def start(self) -> None:
        """Activate the pipeline and begin to take frames.

        Raises:
            Lima2Error: the pipeline cannot be activated; the run has failed.
        """
        try:
            self._activate()
        except Lima2Error as error:
            self.error = error
            self._machine.feed(Event.NOT_ACTIVATED)
            self._close_unused()
            raise
        self._machine.feed(Event.START)
        if not self._deferred:
            self.process()
        self._worker = Worker("acquisition", self._acquire, self._acquisition_failed)

    def process(self) -> None:
        """Begin to process, if that was deferred; any thread may ask."""
        with self._executor_lock:
            if self._executor is not None or self.state not in _LIVE:
                return
            self._executor = Executor(
                self.pipeline,
                self._channel,
                self.params.workers,
                on_failure=self._processing_failed,
                on_done=lambda: self._hooks.processed(self),
            )

    @property
    def waits_to_process(self) -> bool:
        """Whether frames are collected, and nobody has asked to process them yet."""
        return self._deferred and self._executor is None

    def interrupt(self) -> None:
        """End the acquisition early; what was taken is processed."""
        self._acquisition.interrupt()

    def give_up(self, error: Lima2Error) -> None:
        """End the acquisition early because of an error; what was taken is processed.

        Threads: any.
        """
        self.error = self.error or error
        self._acquisition.interrupt()

    def cancel(self) -> None:
        """End the acquisition at once; what was taken is processed, also if that was deferred."""
        self._acquisition.cancel()
        self.process()

    def mark_acquired(self) -> None:
        """Note that the acquisition has ended; by the owner."""
        self._machine.feed(Event.ACQUIRED)

    def mark_processed(self) -> None:
        """Note that the processing has ended; by the owner."""
        failed = self.error is not None
        self._machine.feed(Event.PROCESSED_WITH_ERROR if failed else Event.PROCESSED)

    def discard(self) -> None:
        """Give up a run that was never started."""
        if self._machine.state is RunState.PREPARED:
            self._machine.feed(Event.DISCARD)
            self._close_unused()

    def release(self) -> None:
        """Let go of the frames that were kept to be looked at."""
        self.pipeline.release()

    def join(self, timeout_s: float) -> bool:
        """Wait until all threads have ended; False if ``timeout_s`` passed first."""
        until_s = time.monotonic() + timeout_s
        if self._worker is not None and not self._worker.join(timeout_s):
            return False
        left_s = max(0.0, until_s - time.monotonic())
        return self._executor is None or self._executor.join(left_s)

    def _activate(self) -> None:
        if self.pipeline.activate is None:
            return
        try:
            self.pipeline.activate()
        except Lima2Error:
            raise
        except Exception as error:  # pipelines are foreign code
            reason = f"{type(error).__name__}: {error}"
            raise PipelineError(f"the pipeline could not be activated: {reason}") from error

    def _close_unused(self) -> None:
        for lane in self.pipeline.lanes:
            lane.sink.abort()
        self._source.close()

    def _mind_memory(self, items: Sequence[Frame | Gap]) -> None:
        """Begin to process when collecting would need memory that is not there."""
        room = self._channel.capacity - self._channel.stats().level
        lent = any(isinstance(item, Frame) and not item.keepable for item in items)
        if self._executor is None and (lent or len(items) > room):
            log.info("run %s: processing begins, as memory is needed", self.acq_id)
            self.process()

    def _acquire(self) -> None:
        self._acquisition.run()
        self._hooks.acquired(self, None)

    def _acquisition_failed(self, error: BaseException) -> None:
        if not isinstance(error, Lima2Error):
            log.error("acquisition %s broke off", self.acq_id, exc_info=error)
            error = PipelineError(f"the acquisition broke off: {type(error).__name__}: {error}")
        self._hooks.acquired(self, error)

    def _processing_failed(self, error: Lima2Error) -> None:
        # Told first: an acquisition that has just been ended would look like one that ended well.
        self._hooks.failed(self, error)
        self._acquisition.interrupt()
