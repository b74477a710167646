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
from lima2_core.errors import Lima2Error
from lima2_core.service.events import ServiceEvent, StateChanged
from lima2_core.state.device import AcqState
from lima2_core.worker import Worker
from tango_servers import logs
from tango_servers.errors import as_dev_failed
from tango_servers.names import AcqStateLabel, LogLevel
from tango_servers.process import PROCESS
from tango_servers.settings import no_number, the_one
from tango_servers.states import DEV_STATES

log = logging.getLogger(__name__)


def text_of(value: str | bytes) -> str:
    """The text a client sent: Tango strings are Latin-1, clients write UTF-8 into them."""
    raw = value if isinstance(value, bytes) else value.encode("latin-1", "replace")
    return raw.decode("utf-8", "replace")


def wire_text(text: str) -> str:
    """Any text as a Tango string: what `text_of` reads."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


class LimaDevice(Device):
    """A device in front of one service.

    Events of the service leave through one thread, the only one that pushes (`pump`).
    """

    plugin: ClassVar[CameraPlugin]
    unset: Lima2Error | None = None
    """Why it could not be set up; None once it is."""

    @as_dev_failed
    def init_device(self) -> None:
        """Read the properties, and set up the device as they say.

        A server that starts with a device that cannot be set up ends. By the command Init, which
        loses the text of an error, such a device comes to FAULT.
        """
        self.unset = Lima2Error("this broke off; the log of the server tells why")
        try:
            self._read_properties()
            self.check_properties()
            self.set_up()
        except Lima2Error as error:
            error.details.setdefault("device", self.get_name())
            self.unset = error
            if not PROCESS.serving:
                raise
            log.error("%s cannot be set up: %s", self.get_name(), error)
        else:
            self.unset = None

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
        self._pump = Worker(f"pump-{self.get_name()}", self._serve_events)

    def stop_pump(self) -> None:
        """Wait for the end of the events; the service is closed."""
        self._pump.join(1.0)

    def _serve_events(self) -> None:
        with tango.EnsureOmniThread():
            while True:
                try:
                    event = self._events.get(timeout=self.tick_s())
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
            self.push_change_event("State", DEV_STATES[event.state])
            self.push_change_event("Status", self.dev_status())

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
            return wire_text(f"Not set up: {self.unset}. Mend that, then call Init.")
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
        return AcqStateLabel(self._state_shown)

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
