"""What control and receiver devices have in common."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

import tango
from tango import AttrWriteType
from tango.server import Device, attribute

from lima2_core.camera.api import CameraPlugin
from lima2_core.errors import Lima2Error, StateError
from lima2_core.service.events import ServiceEvent, StateChanged
from lima2_core.state.device import AcqState
from lima2_core.worker import Worker
from tango_servers import logs
from tango_servers.errors import as_dev_failed, dev_failed
from tango_servers.names import AcqStateLabel, LogLevel
from tango_servers.process import PROCESS
from tango_servers.settings import no_number, the_one
from tango_servers.states import DEV_STATES

log = logging.getLogger(__name__)

_PUMP_S = 5.0
"""A pump waits no longer for the end of the one before."""


def text_of(value: str | bytes) -> str:
    """The text a client sent: Tango strings are Latin-1, clients write UTF-8 into them."""
    raw = value if isinstance(value, bytes) else value.encode("latin-1", "replace")
    return raw.decode("utf-8", "replace")


def wire_text(text: str) -> str:
    """Any text as a Tango string: what `text_of` reads."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


class NotThere:
    """Stands for a part of a device that could not be set up: whoever asks it is told why."""

    def __init__(self, why: StateError) -> None:
        self._why = why

    def __getattr__(self, name: str) -> Any:
        raise dev_failed(self._why, name)


class LimaDevice(Device):
    """A device in front of one service.

    Events of the service leave through one thread, the only one that pushes (`pump`).
    """

    plugin: ClassVar[CameraPlugin]
    PARTS: ClassVar[tuple[str, ...]] = ("service",)
    """Attributes of the object that `set_up` fills with what commands and attributes act on."""
    unset: StateError | None = None
    """What everything but Init is refused with; None once it is set up."""
    _pump: Worker | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse all commands of a device that is not set up where clients read the reason.

        Those that have a check of their own ask a part of the device in it.
        """
        super().__init_subclass__(**kwargs)
        for name, member in vars(cls).copy().items():
            check = f"is_{name}_allowed"
            if hasattr(member, "__tango_command__") and not hasattr(cls, check):
                setattr(cls, check, cls.is_set_up)

    @as_dev_failed
    def init_device(self) -> None:
        """Read the properties, and set up the device as they say.

        A server that starts with a device that cannot be set up ends. By the command Init, which
        loses the text of an error, such a device comes to FAULT.
        """
        self._refuse_all(Lima2Error("this broke off; the log of the server tells why"))
        try:
            self._read_properties()
            self.check_properties()
            self.set_up()
        except Lima2Error as error:
            error.details.setdefault("device", self.get_name())
            self._refuse_all(error)
            if not PROCESS.serving:
                raise
            log.error("%s cannot be set up: %s", self.get_name(), error)
            self._announce(AcqState.FAULT)
        else:
            self.unset = None
            if PROCESS.serving:  # by Init: listeners know the state of before
                self._events.put(StateChanged(self.service_state))

    def _refuse_all(self, why: Lima2Error) -> None:
        """Have everything refused that needs a part, rather than act on parts of before."""
        self.unset = StateError(f"Not set up: {why}. Mend that, then call Init.", **why.details)
        for part in self.PARTS:
            setattr(self, part, NotThere(self.unset))

    def is_set_up(self) -> bool:
        """Whether commands can do anything.

        Raises:
            tango.DevFailed: only Init can; it tells what to mend before.
        """
        if self.unset is not None:
            raise dev_failed(self.unset, "is_set_up")
        return True

    def _read_properties(self) -> None:
        try:
            super().init_device()
        except ValueError as error:
            raise no_number(str(error)) from error

    def delete_device(self) -> None:
        if self.unset is None:
            self.tear_down()

    def check_properties(self) -> None:
        """Refuse properties that cannot be right, before anything is made.

        Raises:
            ParamError: there is one; the path names it.
        """

    def set_up(self) -> None:
        """Make the service, as the properties say.

        Raises:
            Lima2Error: it cannot be made.
        """
        raise AttributeError("a device says what it is made of")

    def tear_down(self) -> None:
        """End all that `set_up` made."""
        raise AttributeError("a device says what it is made of")

    def tick_s(self) -> float | None:
        """How long the pump waits for an event before it calls `tick`; None: for ever."""
        return None

    def tick(self) -> None:
        """Look what has changed, and push it; on the pump thread."""

    def start_pump(self, events: queue.SimpleQueue[ServiceEvent | None]) -> None:
        """Serve the events of the service until it closes."""
        self._events = events
        work = partial(self._serve_events, events, self._pump)
        self._pump = Worker(f"pump-{self.get_name()}", work)

    def _announce(self, state: AcqState) -> None:
        """Have a state pushed that there is no service for."""
        events: queue.SimpleQueue[ServiceEvent | None] = queue.SimpleQueue()
        events.put(StateChanged(state))
        events.put(None)
        self.start_pump(events)

    def stop_pump(self) -> None:
        """Wait for the end of the events; the service is closed."""
        if self._pump is not None:
            self._pump.join(1.0)

    def _serve_events(
        self, events: queue.SimpleQueue[ServiceEvent | None], before: Worker | None
    ) -> None:
        with tango.EnsureOmniThread():
            if before is not None:
                # It may wait to push until Init is over; what it pushes is older.
                before.join(_PUMP_S)
            while True:
                try:
                    event = events.get(timeout=self.tick_s())
                except queue.Empty:
                    self._guarded(self.tick)
                    continue
                if event is None:
                    return
                self._guarded(partial(self.handle, event))

    def _guarded(self, push: Callable[[], None]) -> None:
        try:
            push()
        except tango.DevFailed as failed:
            log.warning("an event could not be pushed: %s", failed.args[0].desc)

    def handle(self, event: ServiceEvent) -> None:
        """Push what clients want to know of ``event``; on the pump thread."""
        if isinstance(event, StateChanged):
            self.push_change_event("acq_state", AcqStateLabel(event.state))
            # Events of these two carry what the device was told, whatever is given here.
            self.set_state(DEV_STATES[event.state])
            self.push_change_event("State", DEV_STATES[event.state])
            status = self.dev_status()
            self.set_status(status)
            self.push_change_event("Status", status)

    @property
    def service_state(self) -> AcqState:
        """The acquisition state of the service."""
        raise AttributeError("a device says where its state comes from")

    def status_sentence(self) -> str:
        """What is going on, for people."""
        raise AttributeError("a device says what is going on")

    def plugin_settings(self, names: Iterable[str]) -> dict[str, str]:
        """Properties that plugins declare, by their names; empty texts if they are not set.

        Raises:
            ParamError: one has several values.
        """
        return {name: the_one(name, list(getattr(self, name))) for name in names}

    def camera_properties(self) -> Mapping[str, str]:
        """Settings of the installation that the camera plugin reads; those that are set.

        Raises:
            ParamError: one has several values.
        """
        return {
            name: text
            for name, text in self.plugin_settings(self.plugin.properties).items()
            if text
        }

    def init_events(self) -> None:
        """Say which attributes push change events from code."""
        for name in ("acq_state", "State", "Status"):
            self.set_change_event(name, True, False)

    def dev_state(self) -> tango.DevState:
        return DEV_STATES[self._state_shown]

    def dev_status(self) -> str:
        if self.unset is not None:
            return wire_text(str(self.unset))
        return wire_text(self.status_sentence())

    @property
    def _state_shown(self) -> AcqState:
        return self.service_state if self.unset is None else AcqState.FAULT

    @attribute(
        dtype=AcqStateLabel,
        label="Acquisition state",
        doc="idle, prepared (armed), running (taking frames), stopped (ended early), fault "
        "(needs Reset), terminate (shutting down)",
    )
    def acq_state(self) -> Any:
        self.note_poll()
        return AcqStateLabel(self._state_shown)

    def note_poll(self) -> None:
        """Note that a client is told the acquisition state."""

    @attribute(
        dtype=LogLevel,
        access=AttrWriteType.READ_WRITE,
        label="Log level",
        doc="What this server writes to its log, from this level upwards",
        memorized=False,
    )
    def log_level(self) -> Any:
        return logs.level()

    @as_dev_failed
    def write_log_level(self, level: int) -> None:
        logs.set_level(LogLevel(level))

    def error_sentence(self, error: Lima2Error | None) -> str:
        """The part of a status sentence about an error."""
        return "" if error is None else f" ({error})"
