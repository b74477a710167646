"""One control and its receivers as one system: prepare, start, watch, merge, end, report.

Decisions are taken on one thread, the mailbox of the coordinator. Each receiver is dealt with on a
thread of its own, so a dead one delays nobody, and every wait has an end.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lima2_core.errors import Lima2Error, ParamError, StateError
from lima2_core.ids import AcqId
from lima2_core.service.events import RunFinished, RunsChanged, ServiceEvent, StateChanged
from lima2_core.service.mailbox import Mailbox
from lima2_core.state.device import AcqState
from lima2_core.state.system import Effect, Event, Phase, PhaseEvent, system_machine
from lima2_core.system.detector import failure_of
from lima2_core.system.member import Member
from lima2_core.system.output_thread import Outputs, OutputThread
from lima2_core.system.outputs import RunOutput
from lima2_core.system.ports import (
    ControlPort,
    ControlStatus,
    ReceiverPort,
    RunDescription,
    RunPort,
    UnreachableError,
)
from lima2_core.system.run import SystemOrder, SystemRun
from lima2_core.system.runs import Runs
from lima2_core.system.team import PREPARE_S, STOP_S, Team
from lima2_core.system.watch import RunFeed

log = logging.getLogger(__name__)

ANSWER_S = 2.8
"""A command has answered by then; Tango looks dead to others after 3.2 s."""
CONCLUDE_S = 1.0
"""A detector that has not told by then how many frames it exposed is not waited for."""
OUTPUTS_S = 5.0
"""Outputs that need longer after the end go on alone."""


class Coordinator:
    """Drives a whole system.

    Args:
        outputs: makes the outputs of one run.
        device_of: name under which a run can be asked for frames and progress.
        tell: takes what happens; called on threads of ours, must return at once.

    Threads: everything from any thread, but nothing from within an output.
    """

    def __init__(
        self,
        control: ControlPort,
        receivers: Sequence[ReceiverPort],
        outputs: Callable[[], Sequence[RunOutput]] = tuple,
        device_of: Callable[[AcqId], str] = str,
        tell: Callable[[ServiceEvent], None] = lambda event: None,
    ) -> None:
        self.control = control
        self._tell = tell
        self._outputs = outputs
        self._device_of = device_of
        self._team = Team(control, receivers)
        self._machine = system_machine(control.name)
        self._runs = Runs()
        self._current: SystemRun | None = None
        self._last_error: Lima2Error | None = None
        self._mailbox = Mailbox(f"system-{control.name}")

    # Commands

    def prepare(self, order: SystemOrder, acq_id: AcqId | None = None) -> SystemRun:
        """Prepare all parts together; a fault of earlier is reset first.

        Raises:
            StateError: frames are being taken, by us or for another client.
            ParamError: a part refuses; nothing is prepared.
            UnreachableError: a part does not answer; it is named.
        """
        acq_id = acq_id or AcqId(str(uuid.uuid1()))
        return self._mailbox.call(partial(self._prepare, order, acq_id), ANSWER_S)

    def start(self) -> None:
        """Start all parts together; an error tells that nothing is prepared, or who refuses."""
        try:
            self._mailbox.call(lambda: self._feed(Event.START), ANSWER_S)
        except StateError as error:
            if self.state is not AcqState.FAULT:
                raise
            raise StateError(f"start is not possible in FAULT: {self._last_error}") from error

    def trigger(self) -> None:
        """Give one software trigger."""
        self.control.trigger()

    def stop(self) -> None:
        """End the acquisition early, soon; frames taken are processed and saved."""
        self._mailbox.call(lambda: self._feed(Event.STOP), ANSWER_S)

    def reset(self) -> None:
        """Bring all parts to rest, as far as they answer."""
        self._mailbox.call(self._reset, ANSWER_S)

    def process(self, acq_id: AcqId) -> None:
        """Begin to process a deferred run on all receivers.

        Raises:
            NotAvailableError: no such run.
        """
        self.run(acq_id)
        self._team.process(acq_id)

    def erase(self, acq_id: AcqId) -> None:
        """Forget a run that has ended.

        Raises:
            NotAvailableError: no such run, or it has not ended.
        """
        self._mailbox.call(partial(self._erase, acq_id), STOP_S)

    def close(self) -> None:
        """End; runs that are not over are left to their receivers."""
        self._mailbox.call(lambda: self._feed(Event.TERMINATE), ANSWER_S)
        outputs = self._runs.outputs
        for one in outputs:
            one.finish()
        until_s = time.monotonic() + 1.0
        for one in outputs:
            one.join(until_s)
        self._mailbox.close()
        self._team.close()

    # What can be seen

    @property
    def state(self) -> AcqState:
        return self._machine.state

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of the receivers, in the order of their indices."""
        return tuple(watch.name for watch in self._team.watches)

    @property
    def last_error(self) -> Lima2Error | None:
        """Why the state is FAULT, or why the last command was refused; None if all is well."""
        return self._last_error

    @property
    def current(self) -> SystemRun | None:
        """The run prepared last."""
        return self._current

    @property
    def runs(self) -> tuple[SystemRun, ...]:
        """Runs that exist, oldest first."""
        return self._runs.all

    def knows(self, acq_id: AcqId | None) -> bool:
        """Whether an acquisition was prepared here, and not by another client."""
        return self._runs.knows(acq_id)

    def run(self, acq_id: AcqId) -> SystemRun:
        """A run by its id.

        Raises:
            NotAvailableError: no such run.
        """
        return self._runs.get(acq_id)

    def outputs(self, acq_id: AcqId) -> Sequence[OutputThread]:
        """The outputs of a run."""
        run = self._runs.find(acq_id)
        return run.outputs.threads if run is not None else ()

    @property
    def control_status(self) -> ControlStatus | None:
        """Where the detector was when it was asked last; None before."""
        return self._team.control_status

    # On the mailbox thread

    def _prepare(self, order: SystemOrder, acq_id: AcqId) -> SystemRun:
        until_s = time.monotonic() + PREPARE_S
        self._machine.require(Event.PREPARED, "prepare")
        if self._runs.find(acq_id) is not None:
            raise ParamError("an acquisition needs an id that was not used before", path="uuid")
        self._discard_prepared()
        try:
            self._team.settle(self.knows)
            self._runs.announce(acq_id)
            orders = [order.part(watch.index, acq_id) for watch in self._team.watches]
            applied, detector, prepared = self._team.prepare(
                acq_id, order.acquisition, orders, max(0.0, until_s - time.monotonic())
            )
            run = self._assemble(acq_id, order, applied, detector, prepared)
        except Lima2Error as error:
            self._last_error = error
            if self.state is AcqState.PREPARED:  # what was prepared before is gone
                self._feed(Event.RESET)
            raise
        self._last_error = None
        self._runs.add(run)
        self._current = run
        for watch, member in zip(self._team.watches, run.members, strict=True):
            watch.follow(
                RunFeed(member.port, partial(run.take, watch.index), partial(run.lose, watch.index))
            )
        self._feed(Event.PREPARED)
        for old in self._runs.surplus:
            self._forget(old)
        self._tell(RunsChanged(self._runs.ids))
        return run

    def _assemble(
        self,
        acq_id: AcqId,
        order: SystemOrder,
        applied: Mapping[str, Any],
        detector: Mapping[str, Any],
        prepared: Sequence[tuple[RunPort, RunDescription]],
    ) -> SystemRun:
        members = [
            Member(watch.name, port)
            for watch, (port, _) in zip(self._team.watches, prepared, strict=True)
        ]
        try:
            run = SystemRun(
                acq_id,
                order,
                applied,
                detector,
                members,
                [description for _, description in prepared],
                self._device_of(acq_id),
                lambda run: self._mailbox.post(partial(self._check, run)),
            )
            run.outputs = Outputs(self._outputs(), run.view, partial(self._note_output, run))
            run.check_outputs(self._runs.living)
            return run
        except BaseException:
            for member in members:
                member.port.close()
            self._team.give_back(acq_id)
            raise

    def _discard_prepared(self) -> None:
        run = self._current
        if run is not None and run.phase is Phase.PREPARED:
            run.discard()
            run.outputs.abandon()
            self._team.give_back(run.acq_id)

    def _erase(self, acq_id: AcqId) -> None:
        self._forget(self._runs.ended(acq_id))
        self._tell(RunsChanged(self._runs.ids))

    def _forget(self, run: SystemRun) -> None:
        self._runs.forget(run)
        self._team.erase(run.acq_id)

    def _feed(self, event: Event) -> None:
        before = self.state
        effects = self._machine.feed(event)
        # Told before the effects, one of which may be the next change.
        if self.state is not before:
            log.info("system %s: %s after %s", self.control.name, self.state.name, event.name)
            self._tell(StateChanged(self.state))
        for effect in effects:
            self._carry_out(effect, event)

    def _carry_out(self, effect: Effect, event: Event) -> None:
        if (run := self._current) is None:
            return
        if effect is Effect.START:
            self._start(run)
        elif effect is Effect.DISCARD:
            self._discard_prepared()
        elif run.phase is Phase.RUNNING:
            run.interrupted = True
            # Only who asks for a stop waits for the answers.
            self._team.stop(STOP_S if event in (Event.STOP, Event.TERMINATE) else 0.0)

    def _start(self, run: SystemRun) -> None:
        run.note_start()
        try:
            self._team.start()
        except Lima2Error as error:
            self._fail(run, error)
            self._team.recall()
            raise
        self._team.follow_control(
            lambda news: self._mailbox.post(partial(self._note_control, run, news)),
            lambda: run.phase is Phase.RUNNING,
        )

    def _reset(self) -> None:
        self._feed(Event.RESET)
        self._team.reset()
        self._last_error = None

    def _fail(self, run: SystemRun, error: Lima2Error) -> None:
        run.fail(str(error))
        self._fault(run, error)

    def _fault(self, run: SystemRun, error: Lima2Error) -> None:
        if run is self._current:
            self._last_error = error
            self._feed(Event.FAILED)

    # What follows from the news of a run

    def _check(self, run: SystemRun) -> None:
        """See what the news of a run mean: stop it, end its acquisition, end it."""
        if run.phase is Phase.PREPARED and any(member.ended for member in run.members):
            gone = "; ".join(run.causes) or "a receiver was prepared by another client"
            self._fail(run, UnreachableError(f"what was prepared is gone: {gone}"))
        if run.phase is Phase.RUNNING:
            if self.state is AcqState.RUNNING and (error := run.breach()) is not None:
                self._fail(run, error)
            if not run.acquiring:
                self._note_acquired(run)
        if run.phase is Phase.DRAINING and run.ended and run.exposed_known:
            self._end(run)

    def _note_acquired(self, run: SystemRun) -> None:
        run.feed(PhaseEvent.ACQUIRED)
        if run is not self._current:
            run.note_exposed(None)  # the detector counts for another by now
            return
        self._team.conclude(lambda news: self._mailbox.post(partial(self._conclude, run, news)))
        self._later(CONCLUDE_S, run, lambda run: self._conclude(run, None))
        if run.interrupted or not run.short:  # else the detector may have to say why
            self._feed(Event.ENDED)

    def _conclude(self, run: SystemRun, news: ControlStatus | Lima2Error | None) -> None:
        """Take what the detector says at its end, if it says anything."""
        if not run.exposed_known and run is self._current:
            if news is not None:
                self._judge(run, news)
            self._feed(Event.ENDED)
        run.note_exposed(news.nb_frames_acquired if isinstance(news, ControlStatus) else None)
        self._check(run)

    def _end(self, run: SystemRun) -> None:
        run.settle(run.outputs.survivors)
        run.notes.close("all its frames are saved, and its files are being completed")
        run.ended_wall_s = time.time()
        run.feed(PhaseEvent.PROCESSED)
        run.outputs.finish()
        self._later(OUTPUTS_S, run, self._written)
        self._note_output(run)

    def _later(self, delay_s: float, run: SystemRun, then: Callable[[SystemRun], None]) -> None:
        """Do something with a run, unless it is forgotten by then: it is not kept for this."""
        found = partial(self._runs.find, run.acq_id)
        self._mailbox.post(lambda: then(late) if (late := found()) is not None else None, delay_s)

    def _note_output(self, run: SystemRun) -> None:
        """Close the books once all outputs are done; from any thread."""
        if run.outputs.done:
            self._mailbox.post(partial(self._written, run))

    def _written(self, run: SystemRun) -> None:
        if run.phase is not Phase.ENDING:
            return
        well = run.complete
        run.feed(PhaseEvent.WRITTEN if well else PhaseEvent.WRITTEN_INCOMPLETE)
        if not well and run is self._current and self._last_error is None and run.causes:
            self._last_error = Lima2Error(run.verdict())
        log.info("run %s: %s", run.acq_id, run.verdict())
        self._tell(RunFinished(run.acq_id))

    def _note_control(self, run: SystemRun, news: ControlStatus | Lima2Error) -> None:
        """Take what the detector says while it exposes."""
        if run.phase is not Phase.RUNNING:
            return
        if isinstance(news, ControlStatus):
            run.exposed, run.doubt = news.nb_frames_acquired, news.doubt
        self._judge(run, news)

    def _judge(self, run: SystemRun, news: ControlStatus | Lima2Error) -> None:
        """End a run whose detector has failed."""
        if run is not self._current or run.broken_off or self.state is not AcqState.RUNNING:
            return
        if (error := failure_of(run, self.control.name, news)) is not None:
            run.break_off(str(error))
            self._fault(run, error)
