"""The service behind a receiver: its current run, and those still being processed."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lima2_core.camera.api import CameraEnv, CameraMessage, CameraPlugin
from lima2_core.camera.dispatch import Share
from lima2_core.data.memory import PoolSet, PoolStats
from lima2_core.errors import Lima2Error, NotAvailableError, ParamError, StateError
from lima2_core.ids import AcqId
from lima2_core.service.events import (
    AcquisitionEnded,
    RunFailed,
    RunFinished,
    RunsChanged,
    ServiceEvent,
    StateChanged,
)
from lima2_core.service.mailbox import Mailbox
from lima2_core.service.polls import LOOK_S, StatePolls
from lima2_core.service.request import PrepareRequest
from lima2_core.service.requested import Requested
from lima2_core.service.retention import beyond
from lima2_core.service.run import Plan, Run, RunHooks, plan_run
from lima2_core.service.warm_up import WarmUp
from lima2_core.state.device import AcqState
from lima2_core.state.receiver import Effect, Event, receiver_machine
from lima2_core.state.run import RunState

log = logging.getLogger(__name__)

DWELL_S = 0.15
"""A receiver shows a state other than IDLE for so long after Prepare: the known conductor reads
the state every 50 ms and counts changes, so a shorter acquisition would never end for it."""

SETTLE_S = 0.1
"""The end of a run is announced so long after its last counter changed, so that clients which read
counters every 50 ms have seen the last one."""

COMMAND_S = 2.5
"""A command answers within this time; Tango looks dead to others after 3.2 s."""


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """What the installation decides.

    ``workers`` are the threads of the chain, ``memory_bytes`` the limit of all frame buffers,
    ``runs_kept`` how many finished runs stay readable when no client erases them,
    ``allowed_commands`` the programs that parameters may ask to run.
    """

    workers: int
    memory_bytes: int
    runs_kept: int = 2
    allowed_commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What Prepare led to: the new run, and finished ones that made room for it."""

    run: Run
    retired: tuple[AcqId, ...]


class ReceiverService:
    """Runs acquisitions on one receiver.

    Threads: everything from any thread. Decisions are taken on the mailbox thread.
    """

    def __init__(
        self,
        name: str,
        plugin: CameraPlugin,
        env: CameraEnv,
        share: Callable[[], Share],
        settings: ReceiverSettings,
    ) -> None:
        self.name = name
        self.plugin = plugin
        self.events: queue.SimpleQueue[ServiceEvent | None] = queue.SimpleQueue()
        """What happened, for one reader; None at the end."""
        self.pools = PoolSet(settings.memory_bytes)
        self._share = share
        self._settings = settings
        self._camera = plugin.make_receiver(env)
        self._machine = receiver_machine(name)
        self.requested = Requested(plugin.params)
        """What the next Prepare shall do."""
        self._runs: dict[AcqId, Run] = {}
        self._detached: set[Run] = set()
        self._hasty: set[AcqId] = set()
        self._retired: list[AcqId] = []
        self._warm_up = WarmUp(self.pools)
        self._current: Run | None = None
        self._last_error: Lima2Error | None = None
        self.polls = StatePolls()
        self._mailbox = Mailbox(name)

    # What is commanded

    def check_preparable(self) -> None:
        """Refuse now what Prepare would have to refuse.

        Raises:
            StateError: not in this state.
            ParamError: the parameters cannot be fulfilled.
        """
        self._machine.require(Event.PREPARED, "Prepare")
        self._plan(AcqId(""), False)

    def check_startable(self) -> None:
        """Refuse Start in a wrong state.

        Raises:
            StateError: not in this state.
        """
        self._machine.require(Event.START, "Start")

    def prepare(
        self, acq_id: AcqId, *, at_leisure: bool = True, deferred: bool = False
    ) -> Prepared:
        """Build the run of the parameters last asked for; the state is PREPARED afterwards.

        Args:
            acq_id: not used before.
            at_leisure: announce ends so late that clients which poll every 50 ms see everything.
            deferred: only collect frames until `process` is called.

        Raises:
            Lima2Error: not possible; the state is what it was, and nothing half-made stays.
        """
        return self._mailbox.call(partial(self._prepare, acq_id, at_leisure, deferred), COMMAND_S)

    def process(self, acq_id: AcqId) -> None:
        """Begin to process a run whose processing was deferred.

        Raises:
            NotAvailableError: no such run.
        """
        self._mailbox.call(lambda: self.run(acq_id).process(), COMMAND_S)

    def start(self) -> None:
        """Begin. A pipeline that cannot be activated shows as FAULT, not as an error.

        Raises:
            StateError: not prepared.
        """
        self._mailbox.call(self._start, COMMAND_S)

    def stop(self) -> None:
        """End the acquisition early, soon; harmless in any state."""
        self._mailbox.call(lambda: self._feed(Event.STOP), COMMAND_S)

    def reset(self) -> None:
        """Back to rest from any state, at once; frames already taken are still processed."""
        self._mailbox.call(self._reset, COMMAND_S)

    def erase(self, acq_id: AcqId) -> None:
        """Forget a run. One that is still saving goes on to its end unseen.

        Raises:
            NotAvailableError: no such run.
            StateError: it is taking frames.
        """
        self._mailbox.call(partial(self._erase, acq_id), COMMAND_S)

    def deliver(self, message: CameraMessage) -> None:
        """Take a message of the control part of the camera."""
        run = self._runs.get(message.acq_id)
        if run is not None:
            run.deliver(message)

    # What can be seen

    @property
    def state(self) -> AcqState:
        return self._machine.state

    @property
    def share(self) -> Share:
        """The place of this receiver in its system."""
        return self._share()

    @property
    def last_error(self) -> Lima2Error | None:
        """Why the state is FAULT; None if all is well."""
        return self._last_error

    @property
    def current(self) -> Run | None:
        """The run prepared last."""
        return self._current

    @property
    def received(self) -> int:
        """Frames taken in the current or last acquisition."""
        return self._current.received if self._current is not None else 0

    @property
    def acq_ids(self) -> tuple[AcqId, ...]:
        """Runs that exist, in the order of their creation."""
        return tuple(self._runs)

    @property
    def draining(self) -> int:
        """Runs whose frames are all taken, and still being processed."""
        runs = (*self._runs.copy().values(), *self._detached.copy())
        return sum(run.state is RunState.DRAINING for run in runs)

    def run(self, acq_id: AcqId) -> Run:
        """A run by its id.

        Raises:
            NotAvailableError: no such run.
        """
        run = self._runs.get(acq_id)
        if run is None:
            raise NotAvailableError(f"there is no run {acq_id!r} here", acq_id=acq_id)
        return run

    def memory(self) -> Mapping[str, PoolStats]:
        """Frame buffers (G15)."""
        return self.pools.stats()

    def camera_counters(self) -> Mapping[str, Any]:
        """What the camera counts beside frames."""
        return self._camera.counters()

    def close(self, timeout_s: float = 0.6) -> None:
        """End everything; files are closed if ``timeout_s`` is enough for it."""
        self._mailbox.call(lambda: self._feed(Event.TERMINATE), COMMAND_S)
        until_s = time.monotonic() + timeout_s
        runs = (*self._runs.values(), *self._detached)
        for run in runs:
            run.process()
        for run in runs:
            run.join(max(0.0, until_s - time.monotonic()))
            run.release()
        self._mailbox.close()
        self._warm_up.close()
        self._camera.close()
        self._runs.clear()
        self.events.put(None)

    # On the mailbox thread

    def _plan(self, acq_id: AcqId, deferred: bool) -> Plan:
        plugin, processing = self.requested.processing
        metadata = {"plugin": self.plugin.name}
        acquisition, share = self.requested.acquisition, self._share()
        request = PrepareRequest(acq_id, acquisition, plugin, processing, share, metadata, deferred)
        settings = self._settings
        return plan_run(
            request, self._camera, self.pools, settings.workers, settings.allowed_commands
        )

    def _prepare(self, acq_id: AcqId, at_leisure: bool, deferred: bool) -> Prepared:
        self._machine.require(Event.PREPARED, "Prepare")
        if not acq_id or acq_id in self._runs:
            raise ParamError("an acquisition needs an id that was not used before", path="uuid")
        self._retire()  # first, as the new run may need their buffers
        hooks = RunHooks(self._on_acquired, self._on_failed, self._on_processed)
        run = Run(self._plan(acq_id, deferred), self.pools, hooks)
        self._warm_up.begin()
        if not at_leisure:
            self._hasty.add(acq_id)
        self._last_error = None
        self._feed(Event.PREPARED)  # gives up a run that was prepared before
        self._runs[acq_id] = self._current = run
        self._retire()
        self.events.put(RunsChanged(self.acq_ids))
        retired, self._retired = self._retired, []
        return Prepared(run, tuple(retired))

    def _retire(self) -> None:
        """Forget the oldest finished runs beyond those kept."""
        for run in beyond(self._runs.values(), self._hasty, self._settings.runs_kept):
            self._forget(run)
            self._retired.append(run.acq_id)

    def _start(self) -> None:
        self._machine.require(Event.START, "Start")
        self._feed(Event.START)

    def _reset(self) -> None:
        self._feed(Event.RESET)
        self._last_error = None

    def _erase(self, acq_id: AcqId) -> None:
        run = self.run(acq_id)
        if run is self._current:
            if run.state is RunState.RUNNING and self.state is AcqState.RUNNING:
                raise StateError(f"run {acq_id} is taking frames; stop it first", acq_id=acq_id)
            if run.state is RunState.PREPARED:
                self._feed(Event.RESET)
        self._forget(run)
        self.events.put(RunsChanged(self.acq_ids))

    def _forget(self, run: Run) -> None:
        del self._runs[run.acq_id]
        self._hasty.discard(run.acq_id)
        if run.state in (RunState.RUNNING, RunState.DRAINING):
            self._detached.add(run)
            run.process()  # nobody could ask for it any more
        else:
            run.release()

    def _feed(self, event: Event) -> None:
        before = self.state
        effects = self._machine.feed(event)
        # Told before the effects, one of which may be the next change.
        if self.state is not before:
            log.info("%s: %s after %s", self.name, self.state.name, event.name)
            self.events.put(StateChanged(self.state))
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        run = self._current
        if run is None:
            return
        if effect is Effect.START_RUN:
            try:
                run.start()
            except Lima2Error as error:
                self._last_error = error
                log.warning("%s: the run could not be started: %s", self.name, error)
                self._feed(Event.FAILED)
        elif effect is Effect.INTERRUPT:
            run.interrupt()
        elif run.state is RunState.PREPARED:
            run.discard()
            run.finished = True
        else:
            run.cancel()

    # Events of runs: from their threads to the mailbox thread

    def _on_acquired(self, run: Run, error: Lima2Error | None) -> None:
        self._mailbox.post(partial(self._acquired, run, error))

    def _on_failed(self, run: Run, error: Lima2Error) -> None:
        self._mailbox.post(partial(self._failed, run, error))

    def _on_processed(self, run: Run) -> None:
        settle_s = 0.0 if run.acq_id in self._hasty else SETTLE_S
        self._mailbox.post(partial(self._processed, run), settle_s)

    def _acquired(self, run: Run, error: Lima2Error | None) -> None:
        run.mark_acquired()
        self.events.put(AcquisitionEnded(run.acq_id, run.received))
        if error is not None:
            log.warning("%s: acquisition %s failed: %s", self.name, run.acq_id, error)
            run.error = run.error or error
            self._fault(run, error)
            return
        until_s = run.prepared_s + DWELL_S if run.acq_id not in self._hasty else 0.0
        dwell_s = max(0.0, until_s - time.monotonic())
        self._mailbox.post(partial(self._ended, run), dwell_s)

    def _ended(self, run: Run) -> None:
        if run.acq_id not in self._hasty and self.polls.missed(run.prepared_s):
            self._mailbox.post(partial(self._ended, run), LOOK_S)
        elif run is self._current:
            self._feed(Event.ENDED)

    def _failed(self, run: Run, error: Lima2Error) -> None:
        cause = error.__cause__  # its notes say where it was raised
        log.warning("%s: processing of %s failed: %s", self.name, run.acq_id, error, exc_info=cause)
        run.error = run.error or error
        self.events.put(RunFailed(run.acq_id))
        self._fault(run, error)

    def _fault(self, run: Run, error: Lima2Error) -> None:
        if run is self._current and self.state is AcqState.RUNNING:
            self._last_error = self._last_error or error
            self._feed(Event.FAILED)

    def _processed(self, run: Run) -> None:
        if run.state is RunState.RUNNING:
            # Its acquisition has closed the channel and is about to say that it has ended.
            self._mailbox.post(partial(self._processed, run), SETTLE_S)
            return
        run.mark_processed()
        run.finished = True
        if run in self._detached:
            self._detached.discard(run)
            run.release()
        self.events.put(RunFinished(run.acq_id))
