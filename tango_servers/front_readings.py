"""What the front shows of the system and of its current run; all of it read-only."""

from __future__ import annotations

import enum
import json
from typing import Any, ClassVar

import numpy as np
from tango import AttrQuality
from tango.server import attribute

from lima2_core.ids import AcqId
from tango_servers.base import wire_text
from tango_servers.errors import as_dev_failed
from tango_servers.formats import READING
from tango_servers.front_attributes import FrontAttributes
from tango_servers.front_images import LARGEST
from tango_servers.front_run import FrontRun
from tango_servers.names import NO_ERROR
from tango_servers.run_device import PhaseLabel
from tango_servers.run_readings import RunReadings
from tango_servers.states import FrontState

FrontStateLabel = enum.IntEnum(  # type: ignore[misc]
    "FrontStateLabel", {state.value: number for number, state in enumerate(FrontState)}
)
RunPhaseLabel = enum.IntEnum(  # type: ignore[misc]
    "RunPhaseLabel",
    {name: number for number, name in enumerate(("none", *PhaseLabel.__members__))},
)
_NO_RUN = FrontRun(AcqId(""), "")
"""What is shown before the first run."""
_BUSY = (FrontState.RUNNING, FrontState.FOREIGN)
_LIMA_WORDS = {
    FrontState.RUNNING: "Running",
    FrontState.FOREIGN: "Running",
    FrontState.FAULT: "Fault",
}


class FrontReadings(FrontAttributes, RunReadings):
    """The state of the system, its runs, and the progress of the current one."""

    READINGS: ClassVar[tuple[str, ...]] = (
        "front_state",
        "run_phase",
        "acq_status",
        "ready_for_next_acq",
        "front_error",
        "stuck",
        "current_run",
        "current_run_device",
        "runs",
        "run_phases",
        "receiver_states",
        "preflight",
        "files",
        "troubles",
        "verdict",
        "ledger_counts",
        "frames_received",
        "frames_processed",
        "frames_saved",
        "frames_lost",
        "acq_progress",
        "last_image_acquired",
        "last_image_ready",
        "frame_rate",
        "data_rate",
        "buffer_level",
        "memory_level",
        "time_to_overrun",
        "queue_levels",
    )
    """Names of the attributes below but for the image, for those who push their changes."""

    @property
    def current(self) -> FrontRun | None:
        """The run prepared last."""
        return self.system.current

    @property
    def shown(self) -> FrontRun:
        return self.system.current or _NO_RUN

    # State

    @property
    def _state_of_all(self) -> FrontState:
        return self.system.state if self.unset is None else FrontState.FAULT

    @attribute(
        dtype=FrontStateLabel,
        label="System",
        doc="Control and receivers together: idle (prepareAcq is possible), prepared, running "
        "(taking frames), fault (the next prepareAcq recovers), foreign (busy for another "
        "client), terminate",
    )
    def front_state(self) -> Any:
        return FrontStateLabel[self._state_of_all.value]

    @attribute(
        dtype=RunPhaseLabel,
        label="Phase",
        doc="Where the current run is: none, prepared, running, draining (being processed and "
        "saved), ending (outputs are completed), done, incomplete (frames are missing), discarded",
    )
    def run_phase(self) -> Any:
        return RunPhaseLabel[self.current.phase.name.lower() if self.current else "none"]

    @attribute(dtype=str, label="Status", doc="Ready, Running or Fault, as in Lima1")
    def acq_status(self) -> str:
        return _LIMA_WORDS.get(self._state_of_all, "Ready")

    @attribute(dtype=bool, label="Ready", doc="Whether prepareAcq is possible now")
    def ready_for_next_acq(self) -> bool:
        return self.unset is None and self._state_of_all not in _BUSY

    @attribute(dtype=str, label="Last error", doc="'No error', or what failed or was refused last")
    def front_error(self) -> str:
        error = self.unset or self.system.error
        return wire_text(str(error)) if error is not None else NO_ERROR

    @attribute(
        dtype=(str,),
        max_dim_x=1000,
        label="Receivers",
        doc="Each receiver and what it does; once the front is in use they are asked every second, "
        "and whenever something happens",
    )
    @as_dev_failed
    def receiver_states(self) -> list[str]:
        return [wire_text(line) for line in self.system.receiver_states()]

    # Runs

    @attribute(dtype=str, label="Current run", doc="The run prepared last (uuid), or empty")
    def current_run(self) -> str:
        return self.shown.acq_id

    @attribute(dtype=str, label="Device of the run", doc="Device of the run prepared last")
    def current_run_device(self) -> str:
        return self.shown.device

    @attribute(dtype=(str,), max_dim_x=1000, label="Runs", doc="Runs that exist, oldest first")
    def runs(self) -> list[str]:
        return [run.acq_id for run in self.system.runs]

    @attribute(
        dtype=(str,), max_dim_x=1000, label="Phases", doc="Where these runs are, in the same order"
    )
    def run_phases(self) -> list[str]:
        return [run.phase.name.lower() for run in self.system.runs]

    @attribute(
        dtype=(str,),
        max_dim_x=100,
        label="Pre-flight",
        doc="What speaks against the current run: disk, memory, speed; empty if nothing does",
    )
    def preflight(self) -> list[str]:
        return [wire_text(text) for text in self.shown.warnings]

    # Progress of the current run

    @attribute(
        dtype="DevLong64", label="Received", unit="frames", doc="Frames the receivers have taken"
    )
    def frames_received(self) -> int:
        return self.shown.progress.received

    @attribute(dtype="DevLong64", label="Processed", unit="frames", doc="Frames processed so far")
    def frames_processed(self) -> int:
        return self.shown.progress.processed

    @attribute(dtype="DevLong64", label="Saved", unit="frames", doc="Frames written so far")
    def frames_saved(self) -> int:
        return self.shown.progress.saved

    @attribute(dtype="DevLong64", label="Lost", unit="frames", doc="Frames known to be missing")
    def frames_lost(self) -> int:
        return self.shown.progress.lost

    @attribute(
        dtype="DevDouble",
        label="Progress",
        unit="%",
        format=READING,
        min_value=0,
        max_value=100,
        doc="Frames of which it is known what became of them; 0 for an acquisition without end",
    )
    def acq_progress(self) -> float:
        return self.shown.progress.percent

    @attribute(
        dtype="DevDouble",
        label="Queues",
        unit="%",
        format=READING,
        min_value=0,
        max_value=100,
        doc="Level of the fullest queue of all receivers",
    )
    def buffer_level(self) -> float:
        return self.shown.progress.queue_percent

    @attribute(
        dtype="DevDouble",
        label="Buffer memory",
        unit="%",
        format=READING,
        min_value=0,
        max_value=100,
        doc="Frame buffers in use on the receiver that has least left",
    )
    def memory_level(self) -> float:
        return self.shown.progress.memory_percent

    @attribute(
        dtype="DevDouble",
        label="Time to overrun",
        unit="s",
        format=READING,
        doc="When the first queue will be full if it goes on like this; infinite if none grows",
    )
    def time_to_overrun(self) -> float:
        return self.shown.progress.time_to_overrun_s

    @attribute(
        dtype=str, label="Queue levels", doc="Level and capacity of each queue by receiver (JSON)"
    )
    def queue_levels(self) -> str:
        shown = self.shown
        members = shown.run.members if shown.there else ()
        return json.dumps(
            {one.name: dict(one.status.queues) for one in members if one.status is not None}
        )

    @attribute(
        dtype=(("DevFloat",),),
        max_dim_x=LARGEST,
        max_dim_y=LARGEST,
        label="Live image",
        unit="ADU",
        format=READING,
        doc="The newest frame (its image_band), at most ten times per second, reduced to "
        "image_max_size by leaving out pixels; invalid before the first",
    )
    def last_image(self) -> Any:
        images = self.system.images
        newest = images.newest if images is not None else None
        if newest is None:
            return np.zeros((1, 1), np.float32), 0.0, AttrQuality.ATTR_INVALID
        return newest.pixels
