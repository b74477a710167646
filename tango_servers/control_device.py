"""The control device of the contract; the front of the whole system is in files of its own."""

from __future__ import annotations

import json
from typing import Any

from tango import AttrWriteType
from tango.server import attribute, command, device_property

from lima2_core.camera.api import CameraEnv
from lima2_core.ids import AcqId
from lima2_core.service.control import ControlService
from lima2_core.state.device import AcqState
from tango_servers import discovery
from tango_servers.adapters import TangoLink
from tango_servers.base import text_of
from tango_servers.errors import as_dev_failed, payload_or_none
from tango_servers.front import Front
from tango_servers.process import PROCESS
from tango_servers.settings import TOPOLOGIES, check_devices, check_word

_SENTENCES = {
    AcqState.IDLE: "The detector is at rest.",
    AcqState.PREPARED: "The detector is armed.",
    AcqState.RUNNING: "The detector is acquiring.",
    AcqState.STOPPED: "The acquisition was stopped.",
    AcqState.FAULT: "The detector failed; Reset is needed.",
    AcqState.TERMINATE: "The server is shutting down.",
}


class Lima2Control(Front):
    """Configures and drives one detector; base of the classes ``Lima<Plugin>Control``.

    What acts on the whole system is inherited; everything here acts on the detector alone.

    Threads: Tango calls in on its own threads; every method makes one service call.
    """

    receivers = device_property(
        dtype=(str,),
        default_value=[],
        doc="Receiver devices in the order of their indices. If empty: the receivers of this "
        "detector class in the same domain, in natural order.",
    )
    receiver_topology = device_property(
        dtype=str, default_value="", doc="single, round_robin or dynamic; for information."
    )

    announce_as = device_property(
        dtype=str,
        default_value="",
        doc="Name of a camera plugin to tell clients in place of the own one: known conductors "
        "refuse what they do not know. Simulator, for instance. Empty: the own name.",
    )

    def check_properties(self) -> None:
        check_devices("receivers", self.receivers)
        check_word("receiver_topology", self.receiver_topology, TOPOLOGIES)
        super().check_properties()

    def set_up(self) -> None:
        self.init_events()
        self.link = TangoLink(PROCESS.receivers, lambda *lost: self.service.report_lost(*lost))
        self.service = ControlService(
            self.get_name(),
            self.plugin,
            CameraEnv(self.camera_properties()),
            self.link,
            lambda: max(1, len(self.link.receivers)),
            announce_as=self.announce_as,
        )
        self.init_front(self._receivers)
        self.start_pump(self.service.events)
        PROCESS.add(self.get_name(), self.shut_down)

    def tear_down(self) -> None:
        PROCESS.remove(self.get_name())
        self.shut_down()

    def shut_down(self) -> None:
        """End the service; also at the end of the process."""
        self.system.close()
        self.service.close()
        self.link.close()
        self.stop_pump()

    def _receivers(self) -> tuple[str, ...]:
        return discovery.receivers_of(self.get_name(), self.plugin.name, self.receivers)

    @property
    def service_state(self) -> AcqState:
        return self.service.state

    def status_sentence(self) -> str:
        return _SENTENCES[self.service.state] + self.error_sentence(self.service.last_error)

    # Attributes

    @attribute(
        dtype=str,
        access=AttrWriteType.READ_WRITE,
        label="Acquisition parameters",
        doc="What the next Prepare shall do, as a JSON object; its schema is the property "
        "'schema' of this attribute in the Tango database",
    )
    def acq_params(self) -> str:
        return self.service.acquisition_text

    @as_dev_failed
    def write_acq_params(self, text: Any) -> None:
        self.service.request_acquisition(text_of(text))

    @attribute(
        dtype=str,
        label="Applied parameters",
        doc="The parameters as the detector took them at the last Prepare (JSON); empty before",
    )
    def applied_params(self) -> str:
        return self.service.applied_text

    @attribute(
        dtype=str,
        label="Detector",
        doc="What the detector is (JSON): plugin, model, sn (serial number), pixel_size "
        "(x = width, y = height, metres), dimensions (x = columns, y = rows, pixels), and what its "
        "camera adds",
    )
    @as_dev_failed
    def det_info(self) -> str:
        return json.dumps(self.service.detector_info())

    @attribute(
        dtype=str,
        label="Detector status",
        doc="Present readings (JSON): state, temperature (degC) and humidity (%) where there are "
        "such, and what its camera adds",
    )
    @as_dev_failed
    def det_status(self) -> str:
        return json.dumps(self.service.detector_status())

    @attribute(
        dtype=str,
        label="Detector capabilities",
        doc="What the detector can do (JSON): trigger_modes, expo_time_range and "
        "latency_time_range (shortest and longest, nanoseconds), nb_frames_per_trigger_range "
        "(least and most)",
    )
    @as_dev_failed
    def det_capabilities(self) -> str:
        return json.dumps(self.service.detector_capabilities())

    @attribute(
        dtype="DevLong64",
        label="Frames acquired",
        unit="frames",
        min_value=0,
        doc="Frames exposed to their end in the current or last acquisition",
    )
    def nb_frames_acquired(self) -> int:
        return self.service.nb_frames_acquired

    @attribute(dtype=str, label="Version", doc="Version of the interface of the camera plugin")
    def version(self) -> str:
        return self.plugin.version

    @attribute(
        dtype=str, label="Last error", doc="'No error', or what went wrong since Prepare (JSON)"
    )
    def last_error(self) -> str:
        return payload_or_none(self.unset or self.service.last_error)

    @attribute(
        dtype=(str,),
        max_dim_x=256,
        label="Receivers",
        doc="Receiver devices of this detector, in the order of their indices",
    )
    def receiver_devices(self) -> list[str]:
        return list(self.link.receivers)

    # Commands

    @as_dev_failed
    def is_Prepare_allowed(self) -> bool:
        self.service.check_preparable()
        self.link.connect(self._receivers())
        return True

    @command(dtype_in=str, doc_in="uuid of the acquisition")
    @as_dev_failed
    def Prepare(self, uuid: str) -> None:
        """Configure and arm the detector with the acquisition parameters written before."""
        self.service.prepare(AcqId(discovery.checked_uuid(uuid)))

    @as_dev_failed
    def is_Start_allowed(self) -> bool:
        self.service.check_startable()
        return True

    @command
    @as_dev_failed
    def Start(self) -> None:
        """Begin the acquisition, or wait for triggers."""
        self.service.start()

    @as_dev_failed
    def is_Trigger_allowed(self) -> bool:
        self.service.check_triggerable()
        return True

    @command
    @as_dev_failed
    def Trigger(self) -> None:
        """Give one software trigger; it may queue behind the present exposure."""
        self.service.trigger()

    @command
    @as_dev_failed
    def Stop(self) -> None:
        """End the acquisition early; harmless in any state."""
        self.service.stop()

    @command
    @as_dev_failed
    def Close(self) -> None:
        """End of the acquisition: back to rest."""
        self.service.close_acquisition()

    @command
    @as_dev_failed
    def Reset(self) -> None:
        """Back to rest from any state."""
        self.service.reset()
