"""The front of the whole system, under the names of Lima1: one device for everybody else.

Tango ignores case, so commands cannot be called prepare, start or stop: those of the contract act
on their own device only (`tango_servers.control_device`), these on control and receivers together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import tango
from tango.server import command

from lima2_core.data.encoding import DATA_ARRAY
from lima2_core.errors import Lima2Error, NotAvailableError
from lima2_core.ids import AcqId
from lima2_core.service.control import ControlService
from lima2_core.service.events import RunsChanged, ServiceEvent, StateChanged
from lima2_core.system.outputs import OutputPlugin
from tango_servers.adapters import TangoLink
from tango_servers.base import text_of, wire_text
from tango_servers.errors import as_dev_failed
from tango_servers.front_params import FrontParams, front_params
from tango_servers.front_readings import FrontReadings
from tango_servers.front_system import FrontSystem
from tango_servers.names import AcqStateLabel
from tango_servers.run_device import image_answer, note_answer
from tango_servers.states import DEV_STATES, FrontState

_QUICK_S, _SLOW_S = 0.1, 0.5
"""Time between two looks at what has changed, while a run is alive and else."""


def address_of(device: str) -> str:
    """A device of this database as clients anywhere reach it."""
    database = tango.Util.instance().get_database()
    return f"tango://{database.get_db_host()}:{database.get_db_port()}/{device}"


class Front(FrontReadings):
    """Prepares, starts, stops and watches control and receivers as one.

    Threads: commands and attributes on Tango's threads; events on the pump thread only.
    """

    PARTS = ("service", "link", "system")
    service: ControlService
    link: TangoLink
    outputs: ClassVar[Sequence[OutputPlugin]] = ()
    """Outputs of runs that are installed."""

    def init_front(self, receivers: Callable[[], Sequence[str]]) -> None:
        """Get ready; nothing is made before it is needed."""
        model: type[FrontParams] = front_params(self.plugin.params)
        self.system = FrontSystem(
            self.service,
            self.link,
            model.from_tree({}),
            receivers,
            self.outputs,
            self._output_settings(),
            address_of,
        )
        self._pushed: dict[str, Any] = {}
        for name in (*self.READINGS, *self.EVERYDAY, "last_image"):
            self.set_change_event(name, True, False)

    def check_properties(self) -> None:
        self._output_settings()

    def _output_settings(self) -> dict[str, str]:
        return self.plugin_settings(name for plugin in self.outputs for name in plugin.settings)

    # Events, on the pump thread

    def tick_s(self) -> float:
        with contextlib.suppress(tango.DevFailed):  # it is not set up
            if self.system.lively:
                return _QUICK_S
        return _SLOW_S

    def tick(self) -> None:
        self.system.look()
        self._push_readings()
        images = self.system.images
        newest = images.newest if images is not None else None
        if newest is not None and self._pushed.get("last_image") is not newest:
            self._pushed["last_image"] = newest
            self.push_change_event("last_image", newest.pixels)

    def _push_readings(self) -> None:
        self._push("State", self.dev_state)
        self._push("Status", self.dev_status)
        for name in (*self.READINGS, *self.EVERYDAY):
            self._push(name, partial(getattr(type(self), name).fget, self))

    def handle(self, event: ServiceEvent) -> None:
        if isinstance(event, StateChanged):
            self.push_change_event("acq_state", AcqStateLabel(event.state))
        if self.unset is None:
            self.tick()
        else:
            self._push_readings()

    def _push(self, name: str, read: Callable[[], Any]) -> None:
        """Push what has changed; what cannot be read at present is not pushed."""
        try:
            value = read()
            if name in self._pushed and self._pushed[name] == value:
                return
            if name in self.EVERYDAY:
                value = self._show_written(name, read)
        except (tango.DevFailed, Lima2Error):
            return
        self._pushed[name] = value
        # Events of these two carry what the device was told, whatever is given here.
        if name == "State":
            self.set_state(value)
        elif name == "Status":
            self.set_status(value)
        self.push_change_event(name, value)

    def _show_written(self, name: str, read: Callable[[], Any]) -> Any:
        """Have panels show the present value also as that which was written; gives it."""
        # Tango hands a write from where this puts the value: one that a client makes meanwhile
        # would take the old value for its own. There is none while the device is held.
        with tango.AutoTangoMonitor(self):
            value = read()
            self.get_device_attr().get_w_attr_by_name(name).set_write_value(value)
        return value

    def _nudge(self) -> None:
        """Have changes pushed now."""
        self.service.events.put(RunsChanged(tuple(run.acq_id for run in self.system.runs)))

    # State and status

    def dev_state(self) -> tango.DevState:
        if self.unset is not None or not self.system.leads:
            return super().dev_state()
        return DEV_STATES[self.system.acq_state]

    def dev_status(self) -> str:
        if self.unset is not None:
            return super().dev_status()
        own = wire_text(self.system.sentence())
        if own:
            return own
        foreign = self.system.state is FrontState.FOREIGN
        return super().dev_status() + (" It was prepared by another client." if foreign else "")

    # Commands for the whole system

    @as_dev_failed
    def is_prepareAcq_allowed(self) -> bool:
        self.system.check_preparable()
        return True

    @command(dtype_out=str, doc_out="id of the run (uuid); its device is current_run_device")
    @as_dev_failed
    def prepareAcq(self) -> str:
        """Prepare control and receivers with the parameters of the attributes.

        A fault of earlier is reset; what was prepared before is given up.
        """
        try:
            return self.system.prepare().acq_id
        finally:
            self._nudge()

    @command(
        dtype_in=str,
        doc_in="all parameters (JSON), as in front_params; what is missing has its default",
        dtype_out=str,
        doc_out="id of the run (uuid); its device is limarun/<uuid> in the same domain",
    )
    @as_dev_failed
    def prepareWith(self, text: str) -> str:
        """Prepare control and receivers with these parameters, whatever others write meanwhile.

        They are the parameters of the attributes from then on.
        """
        try:
            params = type(self.system.params).from_json(text_of(text))
            return self.system.prepare_with(params).acq_id
        finally:
            self._nudge()

    @as_dev_failed
    def is_startAcq_allowed(self) -> bool:
        self.system.check_startable()
        return True

    @command
    @as_dev_failed
    def startAcq(self) -> None:
        """Start all parts together."""
        self.system.start()
        self._nudge()

    @command(dtype_in=str, doc_in="id of the run (uuid), as prepareAcq and prepareWith give it")
    @as_dev_failed
    def startRun(self, acq_id: str) -> None:
        """Start all parts together, if it is this run that is prepared.

        What another client prepared meanwhile is not started.
        """
        self.system.check_startable(AcqId(text_of(acq_id)))
        self.system.start()
        self._nudge()

    @as_dev_failed
    def is_acquire_allowed(self) -> bool:
        self.system.check_preparable()
        return True

    @command(dtype_out=str, doc_out="id of the run (uuid); its device is current_run_device")
    @as_dev_failed
    def acquire(self) -> str:
        """Prepare and start at once; follow it by run_phase, or by the device of the run."""
        try:
            acq_id = self.system.prepare().acq_id
            self.system.start()
        finally:
            self._nudge()
        return acq_id

    @as_dev_failed
    def is_triggerAcq_allowed(self) -> bool:
        self.system.check_triggerable()
        return True

    @command
    @as_dev_failed
    def triggerAcq(self) -> None:
        """Give one software trigger."""
        self.system.trigger()

    @command
    @as_dev_failed
    def stopAcq(self) -> None:
        """End our acquisition early; frames that were taken are processed and saved."""
        self.system.stop()
        self._nudge()

    @command
    @as_dev_failed
    def abortAcq(self) -> None:
        """End our acquisition at once, or give up what is prepared."""
        self.system.abort()
        self._nudge()

    @command
    @as_dev_failed
    def resetAcq(self) -> None:
        """Bring control and receivers to rest, whoever made them work."""
        self.system.reset()
        self._nudge()

    @command(dtype_in=str, doc_in="id of the run (uuid); empty = the current one")
    @as_dev_failed
    def processAcq(self, acq_id: str) -> None:
        """Begin to process a run whose processing was deferred."""
        self.system.process(self._run_id(acq_id))

    @command(dtype_in=str, doc_in="id of the run (uuid); empty = the current one")
    @as_dev_failed
    def eraseRun(self, acq_id: str) -> None:
        """Forget a run that has ended, and delete its device; its files stay."""
        self.system.erase(self._run_id(acq_id))
        self._nudge()

    @command(
        dtype_in=str,
        doc_in="name, value (boolean, number, text or list of numbers), unit if it has one (JSON)",
        dtype_out="DevDouble",
        doc_out="when it came, seconds since 1970",
    )
    @as_dev_failed
    def addNote(self, text: str) -> float:
        """Attach a value to the current run, as the command of the same name of its device."""
        if self.current is None:
            raise NotAvailableError("there is no run to attach a note to: nothing was prepared")
        return note_answer(self.current, text)

    @command(
        dtype_in="DevLong",
        doc_in="index in the acquisition; -1 = the newest",
        dtype_out="DevEncoded",
        doc_out=f"{DATA_ARRAY}: two dimensions; a frame that is missing is all zeros",
    )
    @as_dev_failed
    def readImage(self, idx: int) -> tuple[str, bytes]:
        """Give a frame of the current run, as the command of the same name of its device."""
        if self.current is None:
            raise NotAvailableError("an image is not available yet: nothing was prepared")
        return image_answer(self.current, idx)

    def _run_id(self, text: str) -> AcqId:
        if text:
            return AcqId(text)
        if self.current is None:
            raise NotAvailableError("there is no current run")
        return self.current.acq_id
