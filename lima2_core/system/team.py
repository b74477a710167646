"""All parts of a system together: commands to each on a thread of its own, and one answer.

Every wait has an end, and an error names the part that it comes from.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lima2_core.errors import BusyError, Lima2Error, ParamError, StateError
from lima2_core.ids import AcqId
from lima2_core.service.mailbox import Mailbox, Pending
from lima2_core.state.device import AcqState
from lima2_core.system.paths import ACQUISITION, below, of_order
from lima2_core.system.ports import (
    ControlPort,
    ControlStatus,
    ReceiverPort,
    RunDescription,
    RunOrder,
    RunPort,
    UnreachableError,
)
from lima2_core.system.sentences import told_once
from lima2_core.system.watch import POLL_S, ReceiverWatch
from lima2_core.worker import Worker

log = logging.getLogger(__name__)

PREPARE_S = 2.6
"""All parts have answered a prepare by then, or it is refused."""
SETTLE_S = 1.2
"""Part of it in which parts are brought to rest."""
START_S = 2.0
"""All receivers have answered a start by then, or it failed."""
DETECTOR_S = 0.6
"""So much longer the detector has, which is started after them."""
STOP_S = 1.3
HEAD_START_S = 0.5
"""So long at most receivers are told of a stop after the detector: what it still exposed shall not
come to receivers that take nothing more."""

Jobs = Sequence[tuple[str, Pending]]


class Team:
    """One control and its receivers.

    Threads: everything from any thread.
    """

    def __init__(self, control: ControlPort, receivers: Sequence[ReceiverPort]) -> None:
        self.control = control
        self.watches = tuple(ReceiverWatch(n, port) for n, port in enumerate(receivers))
        self.control_status: ControlStatus | None = None
        """What the detector said when it was asked last; None before."""
        self._box = Mailbox(f"watch-{control.name}")

    def prepare(
        self,
        acq_id: AcqId,
        acquisition: Mapping[str, Any],
        orders: Sequence[RunOrder],
        timeout_s: float = PREPARE_S,
    ) -> tuple[Mapping[str, Any], Mapping[str, Any], Sequence[tuple[RunPort, RunDescription]]]:
        """Prepare all; the applied parameters, the detector, and the runs of the receivers.

        Raises:
            Lima2Error: some refuse or do not answer; what was prepared is given back.
        """

        def arm() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
            try:
                return self.control.prepare(acq_id, acquisition), self.control.detector_info()
            except ParamError as error:
                raise below(ACQUISITION, error) from error

        jobs = [(self.control.name, self._box.submit(arm))]
        jobs += [
            (watch.name, watch.submit(partial(_prepare_one, watch.port, order)))
            for watch, order in zip(self.watches, orders, strict=True)
        ]
        try:
            (applied, detector), *prepared = _gather(jobs, timeout_s)
        except Lima2Error:
            self.give_back(acq_id)
            for watch, (_, job) in zip(self.watches, jobs[1:], strict=True):
                watch.submit(partial(_close_one, job))  # once it is done, however late
            raise
        return applied, detector, prepared

    def settle(self, ours: Callable[[AcqId | None], bool]) -> None:
        """Bring parts to rest that a fault, or a lost run of ours, left behind.

        Args:
            ours: whether we prepared an acquisition; those of others are not disturbed.

        Raises:
            UnreachableError: one does not answer.
            StateError: one takes frames for another client; nothing is changed.
        """
        until_s = time.monotonic() + SETTLE_S
        jobs = [(watch.name, watch.submit(watch.port.status)) for watch in self.watches]
        jobs.append((self.control.name, self._box.submit(self.control.status)))
        statuses = _gather(jobs, SETTLE_S)
        for (name, _), status in zip(jobs, statuses, strict=True):
            if status.state is AcqState.RUNNING and not ours(status.acq_id):
                raise StateError(
                    f"{name} is busy with an acquisition of another client ({status.acq_id}); "
                    "wait for its end, or end it there",
                    device=name,
                    acq_id=status.acq_id,
                )
        *of_receivers, of_control = statuses
        resets = [
            (watch.name, watch.submit(watch.port.reset))
            for watch, status in zip(self.watches, of_receivers, strict=True)
            if status.state not in (AcqState.IDLE, AcqState.PREPARED)
        ]
        if of_control.state in (AcqState.FAULT, AcqState.RUNNING):
            resets.append((self.control.name, self._box.submit(self.control.reset)))
        _gather(resets, max(0.0, until_s - time.monotonic()))

    def start(self) -> None:
        """Start the receivers, then the detector.

        Raises:
            Lima2Error: one refuses or does not answer.
        """
        until_s = time.monotonic() + START_S + DETECTOR_S
        _gather([(w.name, w.submit(w.port.start)) for w in self.watches], START_S)
        detector = [(self.control.name, self._box.submit(self.control.start))]
        _gather(detector, max(0.0, until_s - time.monotonic()))

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Ask all to stop, the detector first; those that do not answer their watches notice."""
        exposing = threading.Event()

        def stop_detector() -> None:
            try:
                self.control.stop()
            finally:
                exposing.set()

        def stop_one(port: ReceiverPort) -> None:
            exposing.wait(HEAD_START_S)
            port.stop()

        detector = (self.control.name, self._box.submit(stop_detector))
        receivers = self._ask_all(lambda port: partial(stop_one, port))
        _await([detector, *receivers], timeout_s, "did not stop")

    def recall(self) -> None:
        """Bring back receivers of a start that failed: some run, some still wait for it."""
        for watch in self.watches:
            watch.submit(partial(_quietly, watch.port.reset))

    def reset(self) -> None:
        """Bring all to rest, as far as they answer."""
        detector = (self.control.name, self._box.submit(self.control.reset))
        receivers = self._ask_all(lambda port: port.reset)
        _await([detector, *receivers], STOP_S, "could not be reset")

    def process(self, acq_id: AcqId) -> None:
        """Begin to process a deferred run on all receivers."""
        for watch in self.watches:
            watch.submit(partial(_quietly, partial(watch.port.process, acq_id)))

    def give_back(self, acq_id: AcqId) -> None:
        """Undo a prepare as far as it went."""
        self._box.submit(partial(_quietly, partial(_disarm, self.control, acq_id)))
        self.erase(acq_id)

    def erase(self, acq_id: AcqId) -> None:
        """Have all receivers forget a run."""
        for watch in self.watches:
            watch.submit(partial(_quietly, partial(watch.port.erase, acq_id)))

    def follow_control(
        self, tell: Callable[[ControlStatus | Lima2Error], None], wanted: Callable[[], bool]
    ) -> None:
        """Ask the detector where it is, as long as ``wanted``."""
        self._box.post(partial(self._follow_on, tell, wanted))

    def conclude(self, tell: Callable[[ControlStatus | Lima2Error], None]) -> None:
        """Ask the detector where it ended, and tell it that its acquisition is over."""
        self._box.post(partial(self._ask_control, tell))
        self._box.post(partial(_quietly, self.control.close))

    def close(self) -> None:
        """Ask no more; those that do not answer are not waited for."""
        closers = [Worker(f"close-{watch.name}", watch.close) for watch in self.watches]
        closers.append(Worker(f"close-{self.control.name}", self._box.close))
        until_s = time.monotonic() + STOP_S
        for closer in closers:
            closer.join(max(0.0, until_s - time.monotonic()))

    def _ask_all(self, work: Callable[[ReceiverPort], Callable[[], object]]) -> Jobs:
        """Ask all receivers; those to wait for, as the time of a command is short.

        They are those that gave an answer when they were asked last.
        """
        asked = [(watch, watch.submit(work(watch.port))) for watch in self.watches]
        return [(watch.name, job) for watch, job in asked if not watch.silent]

    def _follow_on(
        self, tell: Callable[[ControlStatus | Lima2Error], None], wanted: Callable[[], bool]
    ) -> None:
        # No closure that names itself: as a ring it would keep the run in memory for long.
        self._ask_control(tell)
        if wanted():
            self._box.post(partial(self._follow_on, tell, wanted), 2 * POLL_S)

    def _ask_control(self, tell: Callable[[ControlStatus | Lima2Error], None]) -> None:
        news: ControlStatus | Lima2Error
        try:
            news = self.control_status = self.control.status()
        except Lima2Error as error:
            news = error
        tell(news)


def _prepare_one(port: ReceiverPort, order: RunOrder) -> tuple[RunPort, RunDescription]:
    try:
        run = port.prepare(order)
    except ParamError as error:
        raise of_order(order, error) from error
    return run, run.describe()


def _close_one(job: Pending) -> None:
    """Ask no more about a run that is not wanted."""
    if job.value is not None:
        run: RunPort = job.value[0]
        run.close()


def _disarm(control: ControlPort, acq_id: AcqId) -> None:
    """Bring the detector to rest, if it still waits for the start of this acquisition."""
    status = control.status()
    if status.acq_id == acq_id and status.state is AcqState.PREPARED:
        control.close()


def _quietly(work: Callable[[], object]) -> None:
    """Do what may fail without consequence."""
    try:
        work()
    except Lima2Error as error:
        log.debug("not done: %s", error)


def _await(jobs: Jobs, timeout_s: float, complaint: str) -> None:
    """Wait for all jobs as long as that is worth it."""
    until_s = time.monotonic() + timeout_s
    for name, job in jobs:
        job.done.wait(max(0.0, until_s - time.monotonic()))
        if job.error is not None:
            log.warning("%s %s: %s", name, complaint, job.error)


def _gather(jobs: Jobs, timeout_s: float) -> list[Any]:
    """Wait for all jobs; their values, or an error that tells all that went wrong, and where.

    Raises:
        Lima2Error: a job failed; the first error, with the texts of all.
        UnreachableError: a job was not done in time.
    """
    until_s = time.monotonic() + timeout_s
    for _, job in jobs:
        job.done.wait(max(0.0, until_s - time.monotonic()))
    errors = [(name, job.error) for name, job in jobs if job.error is not None]
    late = [name for name, job in jobs if not job.done.is_set()]
    if late:
        raise UnreachableError(f"{' and '.join(late)} did not answer within {timeout_s:g} s")
    if errors:
        first = errors[0][1]
        text = "; ".join(told_once((name, str(failure)) for name, failure in errors))
        if isinstance(first, BusyError | UnreachableError):
            raise UnreachableError(text) from first
        if not isinstance(first, Lima2Error):
            raise Lima2Error(text) from first
        first.message = text
        first.args = (text,)
        raise first
    return [job.value for _, job in jobs]
