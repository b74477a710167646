"""The receiver device."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any

import tango
from tango import AttrWriteType
from tango.server import attribute, command, device_property

from lima2_core.camera.api import CameraEnv
from lima2_core.camera.dispatch import Share
from lima2_core.ids import AcqId
from lima2_core.schema import json_tree
from lima2_core.service.events import (
    AcquisitionEnded,
    RunFailed,
    RunFinished,
    RunsChanged,
    ServiceEvent,
)
from lima2_core.service.link import from_text
from lima2_core.service.receiver import ReceiverService, ReceiverSettings
from lima2_core.service.run import Run
from lima2_core.state.device import AcqState
from lima2_core.system.reporter import describe
from lima2_core.system.wire import description_to_tree, order_from_tree
from tango_servers import discovery, resources, settings
from tango_servers.base import LimaDevice, text_of
from tango_servers.devices import delete_device, make_device
from tango_servers.errors import as_dev_failed, payload_or_none
from tango_servers.names import processing_device
from tango_servers.news import Listeners
from tango_servers.process import PROCESS

_TICK_S = 1.0
_SENTENCES = {
    AcqState.IDLE: "Ready.",
    AcqState.PREPARED: "Prepared for the next acquisition.",
    AcqState.RUNNING: "Taking frames.",
    AcqState.STOPPED: "Stopped.",
    AcqState.FAULT: "The acquisition failed; Reset is needed.",
    AcqState.TERMINATE: "The server is shutting down.",
}


class Lima2Receiver(LimaDevice):
    """Takes and processes frames; base of the classes ``Lima<Plugin>Receiver``.

    Threads: Tango calls in on its own threads; every method makes one service call.
    """

    receiver_index = device_property(
        dtype=int, default_value=-1, doc="Position among all receivers, from 0; -1 = find out."
    )
    nb_receivers = device_property(
        dtype=int, default_value=0, doc="Receivers of the system; 0 = find out."
    )
    nb_threads = device_property(
        dtype=int, default_value=0, doc="Processing threads; 0 = one per usable core, at most 8."
    )
    memory_limit = device_property(
        dtype=int, default_value=0, doc="MiB for frame buffers; 0 = 30 % of the memory."
    )
    runs_kept = device_property(
        dtype=int, default_value=2, doc="Finished runs kept readable when no client erases them."
    )
    allowed_commands = device_property(
        dtype=(str,),
        default_value=[],
        doc="Programs that max_countrate_protection may run (absolute paths).",
    )

    def check_properties(self) -> None:
        settings.check_place(self.receiver_index, self.nb_receivers)
        settings.check_number("nb_threads", self.nb_threads, 0, settings.MOST_THREADS)
        settings.check_number("memory_limit", self.memory_limit, 0, settings.MOST_MEMORY_MIB)
        settings.check_number("runs_kept", self.runs_kept, 0, settings.MOST_RUNS)
        settings.check_programs("allowed_commands", self.allowed_commands)

    def set_up(self) -> None:
        self.init_events()
        self.set_change_event("pipelines", True, False)
        self.set_change_event("nb_frames_xferred", True, False)
        self.set_data_ready_event("nb_frames_xferred", True)
        self._share = Share()
        self._devices: dict[AcqId, str] = {}
        self._devices_lock = threading.Lock()
        self.service = ReceiverService(
            self.get_name(),
            self.plugin,
            CameraEnv(self.camera_properties()),
            lambda: self._share,
            ReceiverSettings(
                workers=self.nb_threads or resources.default_workers(),
                memory_bytes=self.memory_limit * 2**20 or resources.default_memory_bytes(),
                runs_kept=self.runs_kept,
                allowed_commands=tuple(self.allowed_commands),
            ),
        )
        PROCESS.receivers[self.get_name().lower()] = self.service
        self.start_pump(self.service.events)
        PROCESS.add(self.get_name(), self.shut_down)

    def tear_down(self) -> None:
        PROCESS.remove(self.get_name())
        for acq_id in list(self._devices):
            # At the end of the process Tango may have deleted it before this device.
            with contextlib.suppress(tango.DevFailed):
                self._remove_device(acq_id)
        self.shut_down()

    def shut_down(self) -> None:
        """End the service; also at the end of the process."""
        PROCESS.receivers.pop(self.get_name().lower(), None)
        self.service.close()
        self.stop_pump()

    @property
    def service_state(self) -> AcqState:
        return self.service.state

    def note_poll(self) -> None:
        if self.unset is None:
            self.service.polls.note()

    def status_sentence(self) -> str:
        count = self.service.draining
        more = f" {count} runs are still being processed." if count else ""
        error = self.error_sentence(self.service.last_error)
        return _SENTENCES[self.service.state] + error + more

    def tick_s(self) -> float:
        return _TICK_S

    def tick(self) -> None:
        run = self.service.current
        name = self._devices.get(run.acq_id, "") if run is not None else ""
        listeners = PROCESS.listeners.get(name.lower())
        if listeners is not None:
            listeners.mind_owner()

    def handle(self, event: ServiceEvent) -> None:
        super().handle(event)
        if isinstance(event, RunsChanged):
            self.push_change_event("pipelines", list(event.acq_ids))
        elif isinstance(event, AcquisitionEnded):
            self.push_change_event("nb_frames_xferred", event.received)
            self.push_data_ready_event("nb_frames_xferred", 0)
        elif isinstance(event, RunFailed):
            self._push_ready(event.acq_id, "last_error")
        elif isinstance(event, RunFinished):
            self._push_ready(event.acq_id, "is_finished")

    def _push_ready(self, acq_id: AcqId, name: str) -> None:
        """Push an event of a processing device, unless it has been erased."""
        with self._devices_lock:
            device = self._devices.get(acq_id)
            if device is not None:
                with PROCESS.devices_lock:
                    found = tango.Util.instance().get_device_by_name(device)
                found.push_data_ready_event(name, 0)

    # Attributes

    @attribute(
        dtype=str,
        access=AttrWriteType.READ_WRITE,
        label="Acquisition parameters",
        doc="What the next Prepare shall do, as a JSON object; its schema is the property "
        "'schema' of this attribute in the Tango database",
    )
    def acq_params(self) -> str:
        return self.service.requested.acquisition.to_json()

    @as_dev_failed
    def write_acq_params(self, text: Any) -> None:
        self.service.requested.ask_acquisition(text_of(text))

    @attribute(
        dtype=str,
        access=AttrWriteType.READ_WRITE,
        label="Processing parameters",
        doc="The pipeline of the next Prepare (class_name) and its parameters, as a JSON object",
    )
    @as_dev_failed
    def proc_params(self) -> str:
        return self.service.requested.processing[1].to_json()

    @as_dev_failed
    def write_proc_params(self, text: Any) -> None:
        self.service.requested.ask_processing(text_of(text))

    @attribute(
        dtype="DevLong64",
        label="Frames received",
        unit="frames",
        min_value=0,
        doc="Frames taken from the camera in the current or last acquisition",
    )
    def nb_frames_xferred(self) -> int:
        return self.service.received

    @attribute(
        dtype="DevLong64",
        label="Frames lost",
        unit="frames",
        min_value=0,
        doc="Frames known to be missing in the current or last acquisition",
    )
    def nb_frames_lost(self) -> int:
        run = self.service.current
        return run.lost if run is not None else 0

    @attribute(
        dtype=(str,), max_dim_x=256, label="Pipelines", doc="Runs that exist, oldest first (uuid)"
    )
    def pipelines(self) -> list[str]:
        return list(self.service.acq_ids)

    @attribute(dtype=str, label="Current pipeline", doc="The run prepared last (uuid), or empty")
    def current_pipeline(self) -> str:
        run = self.service.current
        return run.acq_id if run is not None else ""

    @attribute(
        dtype=int, label="Index", unit="receiver", doc="Position among all receivers, from 0"
    )
    @as_dev_failed
    def recv_rank(self) -> int:
        return self._find_share().receiver

    @attribute(dtype=str, label="Last error", doc="'No error', or why the state is fault (JSON)")
    def last_error(self) -> str:
        return payload_or_none(self.unset or self.service.last_error)

    @attribute(
        dtype="DevLong64",
        label="Frames waiting",
        unit="frames",
        min_value=0,
        doc="Frames in the queue between camera and pipeline",
    )
    def queue_level(self) -> int:
        stats = self._run_stats()
        return stats.queue.level if stats is not None else 0

    @attribute(
        dtype="DevLong64",
        label="Buffer memory",
        unit="bytes",
        min_value=0,
        doc="Memory taken for frame buffers",
    )
    def buffer_bytes(self) -> int:
        return sum(stats.total_bytes for stats in self.service.memory().values())

    @attribute(
        dtype=str,
        label="Buffers",
        doc="Frame buffers by pool: size, number, in use, peak, leases, waits (JSON)",
    )
    def buffers(self) -> str:
        return json.dumps(
            {name: resources.as_tree(stats) for name, stats in self.service.memory().items()}
        )

    @attribute(
        dtype=str,
        label="Camera counters",
        doc="What the camera counts beside frames in the current or last acquisition, such as "
        "packets by class for each port (JSON)",
    )
    def camera_counters(self) -> str:
        return json.dumps(self.service.camera_counters())

    def _run_stats(self) -> Any:
        run = self.service.current
        return run.stats() if run is not None else None

    # Commands

    def _find_share(self) -> Share:
        alone = len(PROCESS.receivers) == 1
        return discovery.share_of(
            self.get_name(), self.plugin.name, self.receiver_index, self.nb_receivers, alone
        )

    @as_dev_failed
    def is_Prepare_allowed(self) -> bool:
        self.service.check_preparable()
        self._share = self._find_share()
        return True

    @command(dtype_in=str, doc_in="uuid of the acquisition")
    @as_dev_failed
    def Prepare(self, uuid: str) -> None:
        """Build the run of the parameters written before, with its processing device."""
        prepared = self.service.prepare(AcqId(discovery.checked_uuid(uuid)))
        self._add_device(prepared.run)
        for acq_id in prepared.retired:
            self._remove_device(acq_id)
        # Nobody can read the state while this command holds the device.
        prepared.run.prepared_s = time.monotonic()

    @as_dev_failed
    def is_Start_allowed(self) -> bool:
        self.service.check_startable()
        return True

    @command
    @as_dev_failed
    def Start(self) -> None:
        """Begin to take frames."""
        self.service.start()

    @command
    @as_dev_failed
    def Stop(self) -> None:
        """End the acquisition early; frames already taken are processed."""
        self.service.stop()

    @command
    @as_dev_failed
    def Reset(self) -> None:
        """Back to rest from any state."""
        self.service.reset()

    @command(dtype_in=str, doc_in="uuid of the run")
    @as_dev_failed
    def erasePipeline(self, uuid: str) -> None:
        """Forget a run and delete its processing device."""
        acq_id = AcqId(uuid)
        self.service.erase(acq_id)
        self._remove_device(acq_id)

    @command(
        dtype_in=str,
        doc_in="acq_id, acquisition, processing, deferred (JSON)",
        dtype_out=str,
        doc_out="device, description of the run, and listener: id for readNews there (JSON)",
    )
    @as_dev_failed
    def prepareRun(self, text: str) -> str:
        """Build a run from a complete order, and listen to it; for the front of the system.

        Unlike after Prepare, ends are announced at once: the front misses none.
        """
        order = order_from_tree(json_tree(text_of(text)))
        self._share = self._find_share()
        requested = self.service.requested
        requested.ask_acquisition(json.dumps(dict(order.acquisition)))
        requested.ask_processing(json.dumps(dict(order.processing)))
        acq_id = AcqId(discovery.checked_uuid(order.acq_id))
        prepared = self.service.prepare(acq_id, at_leisure=False, deferred=order.deferred)
        name = self._add_device(prepared.run)
        for retired in prepared.retired:
            self._remove_device(retired)
        answer = {
            "device": name,
            "description": description_to_tree(describe(prepared.run)),
            "listener": PROCESS.listeners[name.lower()].open(owner=True),
        }
        return json.dumps(answer)

    @command(dtype_in=str, doc_in="uuid of the run")
    @as_dev_failed
    def processRun(self, uuid: str) -> None:
        """Begin to process a run that was prepared to collect frames first."""
        self.service.process(AcqId(uuid))

    @command(dtype_in=str, doc_in="message of the control part of the camera (JSON)")
    @as_dev_failed
    def cameraMessage(self, text: str) -> None:
        """Take a message of the control part of the camera; for control devices only."""
        self.service.deliver(from_text(text_of(text)))

    def _add_device(self, run: Run) -> str:
        name = processing_device(self.get_name(), run.acq_id, self._share.receiver)
        PROCESS.runs[name.lower()] = run
        PROCESS.listeners[name.lower()] = Listeners(run, self.service)
        with PROCESS.devices_lock:
            make_device(run.plugin.class_name, name)
        with self._devices_lock:
            self._devices[run.acq_id] = name
        return name

    def _remove_device(self, acq_id: AcqId) -> None:
        with self._devices_lock:
            name = self._devices.pop(acq_id, None)
            if name is not None:
                PROCESS.runs.pop(name.lower())
                PROCESS.listeners.pop(name.lower()).close_all()
                with PROCESS.devices_lock:
                    delete_device(name)
