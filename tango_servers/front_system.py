"""What the front does, whatever Tango calls it: parameters, coordinator, runs, who else is busy.

The coordinator is made when it is first needed, so that a control that only a foreign conductor
drives costs nothing.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from lima2_core.errors import (
    Lima2Error,
    NotAvailableError,
    ParamError,
    StateError,
    StorageError,
)
from lima2_core.ids import AcqId
from lima2_core.service.control import ControlService
from lima2_core.service.events import RunsChanged, ServiceEvent
from lima2_core.state.device import AcqState
from lima2_core.system.coordinator import Coordinator
from lima2_core.system.local import LocalControl
from lima2_core.system.outputs import OutputPlugin
from lima2_core.system.paths import ACQUISITION, below
from lima2_core.system.preflight import Experience, Room, check_length, demand_of, preflight
from lima2_core.system.progress import frame_bytes
from lima2_core.worker import Worker
from tango_servers.adapters import TangoLink
from tango_servers.front_images import ImageChoice, ImageFollower
from tango_servers.front_outputs import OutputMaker
from tango_servers.front_params import FrontParams
from tango_servers.front_receivers import ReceiverStates
from tango_servers.front_run import FrontRun
from tango_servers.front_runs import FrontRuns
from tango_servers.ports import TangoReceiver
from tango_servers.states import FRONT_STATES, FrontState

CLOSE_S = 0.6
"""A server that is told to end has a second for everything."""
_EXPERIENCES = 8
_BUSY = (AcqState.PREPARED, AcqState.RUNNING)


class FrontSystem:
    """The whole system behind one control device.

    Args:
        receivers: names of the receiver devices, as of now.
        plugins: outputs of runs, made with ``settings``.
        address_of: how others reach a device of this server.

    Threads: commands by one at a time; `look` by one at a time; everything else from any.
    """

    def __init__(
        self,
        service: ControlService,
        link: TangoLink,
        params: FrontParams,
        receivers: Callable[[], Sequence[str]],
        plugins: Sequence[OutputPlugin],
        settings: Mapping[str, str],
        address_of: Callable[[str], str],
    ) -> None:
        self.params = params
        """What the next prepare shall do."""
        self.runs = FrontRuns(service.name)
        self._service = service
        self._link = link
        self._receivers = receivers
        self._outputs = OutputMaker(plugins, settings)
        self._address_of = address_of
        self._ports: tuple[TangoReceiver, ...] = ()
        self._coordinator: Coordinator | None = None
        self._images: ImageFollower | None = None
        self.image_choice = ImageChoice()
        self._states: ReceiverStates | None = None
        self._current: FrontRun | None = None
        self._experiences: deque[Experience] = deque(maxlen=_EXPERIENCES)
        self._learnt: set[AcqId] = set()
        self._refusal: Lima2Error | None = None
        self._outputs()  # those that need time to begin do so now, and wrong settings are told

    # Commands

    def check_preparable(self, params: FrontParams | None = None) -> None:
        """Refuse now what prepare would have to refuse, as far as that is known here.

        Args:
            params: what shall be prepared; None: the parameters asked for.

        Raises:
            StateError: frames are being taken, by us or for another client.
            ParamError: the detector cannot do it.
        """
        state = self.state
        if state is FrontState.RUNNING:
            raise StateError("an acquisition is running; stopAcq ends it", state=state.value)
        if state is FrontState.FOREIGN and self._service.state is AcqState.RUNNING:
            raise StateError(
                f"{self._service.name} is busy with an acquisition of another client "
                f"({self._service.acq_id}); wait for its end, or end it there",
                state=state.value,
            )
        acquisition = (params or self.params).acquisition
        try:
            check_length(acquisition.acq.nb_frames)
            self._service.check(acquisition)
        except ParamError as error:
            raise below(ACQUISITION, error) from error

    def prepare(self) -> FrontRun:
        """Prepare control and receivers with the parameters asked for.

        Raises:
            Lima2Error: not possible; nothing stays prepared.
        """
        coordinator = self._ready_coordinator()
        acq_id = AcqId(str(uuid.uuid1()))
        front_run = self.runs.add(acq_id)
        try:
            front_run.attach(coordinator.prepare(self.params.order(), acq_id))
            front_run.warnings = self._preflight(front_run)
        except Lima2Error as error:
            self._refusal = error
            self.runs.remove(acq_id)
            if isinstance(error, StorageError) and coordinator.state is AcqState.PREPARED:
                coordinator.reset()
            raise
        self._refusal = None
        self._current = front_run
        self.runs.keep(run.acq_id for run in coordinator.runs)
        return front_run

    def prepare_with(self, params: FrontParams) -> FrontRun:
        """The same with other parameters, which are those asked for from now on if they will do.

        Raises:
            Lima2Error: not possible; nothing stays prepared.
        """
        self.check_preparable(params)
        before, self.params = self.params, params
        try:
            return self.prepare()
        except Lima2Error:
            self.params = before
            raise

    def check_startable(self, acq_id: AcqId | None = None) -> None:
        """Refuse start where nothing of ours is prepared.

        Args:
            acq_id: the run that shall be started; None: whatever is prepared.

        Raises:
            StateError: not prepared, or another run.
        """
        current = self._current
        if acq_id is not None and (current is None or current.acq_id != acq_id):
            since = f": {current.acq_id} was prepared since" if current is not None else ""
            raise StateError(f"run {acq_id} was given up or has ended{since}", acq_id=acq_id)
        state = self.state
        if state is not FrontState.PREPARED:
            raise StateError(
                f"start is not possible while the system is {state.value}; prepareAcq comes first",
                state=state.value,
            )

    def start(self) -> None:
        """Start all parts."""
        self._made().start()

    def check_triggerable(self) -> None:
        """Refuse a trigger where none is waited for.

        Raises:
            StateError: nothing of ours runs, or triggers come from elsewhere.
        """
        if self.state is not FrontState.RUNNING:
            raise StateError(f"nothing waits for a trigger: the system is {self.state.value}")
        self._service.check_triggerable()

    def trigger(self) -> None:
        """Give one software trigger."""
        self._made().trigger()

    def stop(self) -> None:
        """End our acquisition early; harmless if there is none."""
        if self._coordinator is not None:
            self._coordinator.stop()

    def abort(self) -> None:
        """End our acquisition at once, or give up what is prepared; harmless if there is none."""
        if self.state in (FrontState.PREPARED, FrontState.RUNNING):
            self._made().reset()

    def reset(self) -> None:
        """Bring all parts to rest, whoever made them work."""
        self._ready_coordinator().reset()
        self._refusal = None

    def process(self, acq_id: AcqId) -> None:
        """Begin to process a deferred run.

        Raises:
            NotAvailableError: no such run.
        """
        self.runs.get(acq_id)
        self._made().process(acq_id)

    def erase(self, acq_id: AcqId) -> None:
        """Forget a run that has ended.

        Raises:
            NotAvailableError: no such run, or it has not ended.
        """
        self.runs.get(acq_id)
        self._made().erase(acq_id)
        self.runs.remove(acq_id)
        if self._current is not None and self._current.acq_id == acq_id:
            self._current = None

    def close(self) -> None:
        """End; must be quick, and does not wait for who does not answer."""
        if self._states is not None:
            self._states.end()
        work: list[Callable[[], None]] = [port.close for port in self._ports]
        if self._coordinator is not None:
            work.insert(0, self._coordinator.close)
        closers = [Worker("front-close", one) for one in work]
        until_s = time.monotonic() + CLOSE_S
        if self._images is not None:
            self._images.close(CLOSE_S)
        for closer in closers:
            closer.join(max(0.0, until_s - time.monotonic()))
        if self._states is not None:
            self._states.join(max(0.0, until_s - time.monotonic()))
        self.runs.keep(())

    # What can be seen

    @property
    def current(self) -> FrontRun | None:
        """The run prepared last."""
        return self._current

    @property
    def images(self) -> ImageFollower | None:
        """Who fetches live images; None before the first prepare."""
        return self._images

    @property
    def leads(self) -> bool:
        """Whether the detector was prepared last by us, so that our state is that of the device."""
        coordinator = self._coordinator
        return coordinator is not None and coordinator.knows(self._service.acq_id)

    @property
    def acq_state(self) -> AcqState:
        """State of the system as the coordinator sees it."""
        return self._coordinator.state if self._coordinator is not None else AcqState.IDLE

    @property
    def state(self) -> FrontState:
        """What the whole system is doing."""
        leads = self.leads
        if not leads and self._service.state in _BUSY:
            return FrontState.FOREIGN
        own = FRONT_STATES[self.acq_state if leads else self._service.state]
        if own in (FrontState.IDLE, FrontState.FAULT) and self._foreign_receiver():
            return FrontState.FOREIGN
        return own

    @property
    def error(self) -> Lima2Error | None:
        """Why the state is fault, or the last prepare was refused; None if all is well."""
        last = self._coordinator.last_error if self._coordinator is not None else None
        return last or self._refusal

    def receiver_states(self) -> list[str]:
        """One line for each receiver: its name, and what it does."""
        states = self._states
        return [
            f"{name}: {states.line(name) if states is not None else 'not asked yet'}"
            for name in self._receivers()
        ]

    def sentence(self) -> str:
        """What is going on, for people; empty if the device itself has more to say."""
        state, current = self.state, self._current
        busy = sum(run.alive for run in self.runs if run is not current)
        more = f" {busy} earlier runs are still being processed." if busy else ""
        if state is FrontState.FOREIGN:
            who = self._foreign_receiver()
            return f"Busy: {who} is taking frames for another client.{more}" if who else ""
        if state is FrontState.FAULT:
            return f"Failed: {self.error}. The next prepareAcq recovers.{more}"
        if self._refusal is not None:
            return f"Ready; the last prepareAcq was refused: {self._refusal}.{more}"
        if current is None or not self.leads:
            return ""
        return f"{current.sentence()}{more}"

    def look(self) -> None:
        """See how far all runs are; to be called again and again."""
        for run in self.runs:
            if run.there and run.acq_id not in self._learnt:
                run.look()
                if run.over:
                    self._learn(run)

    @property
    def lively(self) -> bool:
        """Whether there is much to see."""
        return any(run.alive for run in self.runs)

    # How it works

    def _made(self) -> Coordinator:
        if self._coordinator is None:
            raise StateError("nothing was prepared yet; prepareAcq comes first")
        return self._coordinator

    def _ready_coordinator(self) -> Coordinator:
        """The coordinator of the present receivers."""
        names = tuple(self._receivers())
        if not names:
            raise NotAvailableError(
                f"no receivers are known; set the property receivers of {self._service.name}"
            )
        self._link.connect(names)
        old = self._coordinator
        if old is not None and old.receivers == names:
            return old
        if old is not None:
            old.close()
            for port in self._ports:
                port.close()
            self.runs.keep(())
            self._current = None
        self._ports = tuple(TangoReceiver(name) for name in names)
        self._coordinator = Coordinator(
            LocalControl(self._service), self._ports, self._outputs, self._device_of, self._nudge
        )
        if self._images is None:
            self._images = ImageFollower(
                self._service.name, self.image_choice, lambda: self._current
            )
            self._states = ReceiverStates(self._service.name, lambda: self._ports)
        return self._coordinator

    def _nudge(self, event: ServiceEvent) -> None:
        """Have what has changed pushed now; what is no event of the detector is not told as one."""
        if self._states is not None:
            self._states.ask()
        self._service.events.put(RunsChanged(()))

    def _device_of(self, acq_id: AcqId) -> str:
        return self._address_of(self.runs.get(acq_id).device)

    def _preflight(self, front_run: FrontRun) -> tuple[str, ...]:
        rooms = [
            Room(member.name, member.status.memory_bytes, member.status.memory_limit_bytes)
            for member in front_run.run.members
            if member.status is not None
        ]
        warnings = preflight(demand_of(front_run.run), rooms, tuple(self._experiences))
        broken = (f"no {name}: {text}" for name, text in self._outputs.failures.items())
        return (*warnings, *broken)

    def _learn(self, run: FrontRun) -> None:
        """Remember how fast a run went."""
        self._learnt.add(run.acq_id)
        self._learnt &= {known.acq_id for known in self.runs}
        rate_hz = run.progress.mean_rate_hz
        if rate_hz > 0:
            self._experiences.append(Experience(frame_bytes(run.run), rate_hz, run.bottleneck))

    def _foreign_receiver(self) -> str:
        """A receiver that works for another client; empty without one."""
        coordinator = self._coordinator
        if coordinator is None or self._states is None:
            return ""
        return self._states.foreign(coordinator.knows)
