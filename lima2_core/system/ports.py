"""What the parts of a system look like to the coordinator, wherever they run.

A port raises `Lima2Error` when the other side refuses, and `UnreachableError` when it does not
answer within the time that the port allows itself; every call has such a limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.data.pooling import Reach
from lima2_core.data.record import RecordSpec
from lima2_core.errors import Lima2Error
from lima2_core.flow.pipeline import SavedFiles
from lima2_core.ids import AcqId
from lima2_core.state.device import AcqState


class UnreachableError(Lima2Error):
    """A control or a receiver does not answer: it is dead, stopped, or cut off."""

    code = "unreachable"


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What one receiver shall do in one acquisition."""

    acq_id: AcqId
    acquisition: Mapping[str, Any]
    processing: Mapping[str, Any]
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class SavedDescription:
    """Frames of one source that a receiver saves."""

    spec: FrameSpec
    files: SavedFiles


@dataclass(frozen=True, slots=True)
class RunDescription:
    """What a prepared run of a receiver will give; it stays as it is."""

    input_spec: FrameSpec
    output_spec: FrameSpec
    streams: Mapping[str, RecordSpec]
    """Records of the frames, without those that tell about rows."""
    saved: Mapping[str, SavedDescription]
    sources: tuple[str, ...]
    """Frames that can be fetched."""
    depth: int = 1
    """Frames of the detector in one processed frame."""
    keeps_rows: bool = True
    placement: Placement | None = None
    """Of the frames of the camera; None where each frame is with one receiver."""
    output_placement: Placement | None = None
    """Of processed frames; None: they lie where those of the camera do."""
    fill: float = 0
    """What pixels of whole frames of the camera read that no receiver has."""
    output_fill: float = 0
    """The same of processed frames."""
    remarks: tuple[str, ...] = ()
    """What users should know before the start."""
    reaches: Mapping[str, Reach] = field(default_factory=dict)
    """By stream of which it tells `lima2_core.data.pooling.PART_RECORD`: what it contributes to."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where a run of a receiver is."""

    state: str
    finished: bool
    received: int
    lost: int
    counters: Mapping[str, int]
    flushed: Mapping[str, int]
    """Rows safe in files, by saved source."""
    queues: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Level and capacity of each queue, in the order of the flow."""
    readings: Mapping[str, float] = field(default_factory=dict)
    """What the pipeline tells besides, by names with units."""
    error: str = ""
    error_code: str = ""
    """Class of the error: the code of a `Lima2Error`."""
    memory_bytes: int = 0
    memory_limit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RunNews:
    """What happened in a run since the last time one asked."""

    status: RunStatus
    """Taken before the records: a run that is finished has no more of them afterwards."""
    records: Mapping[str, NDArray[Any]]
    """By stream: ``ledger``, ``rows/<source>`` of saved sources, and the pipeline's own."""


class RunPort(Protocol):
    """One run on one receiver."""

    def describe(self) -> RunDescription: ...

    def news(self) -> RunNews:
        """What came since the last call, which belongs to this port alone."""
        ...

    def frame(self, source: str, idx: int, step: int = 1) -> Frame:
        """A frame by its index; -1 is the newest there. Of its pixels one in ``step``, each way.

        Raises:
            NotAvailableError: not yet, not any more, or never.
        """
        ...

    def close(self) -> None:
        """Ask no more; must not raise."""
        ...


@dataclass(frozen=True, slots=True)
class ReceiverStatus:
    """Where a receiver is."""

    state: AcqState
    error: str = ""
    acq_id: AcqId | None = None
    """What it was prepared for last, by whomever; None if never."""


class ReceiverPort(Protocol):
    """One receiver."""

    name: str

    def prepare(self, order: RunOrder) -> RunPort: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def reset(self) -> None: ...

    def process(self, acq_id: AcqId) -> None:
        """Begin to process a deferred run."""
        ...

    def erase(self, acq_id: AcqId) -> None: ...

    def status(self) -> ReceiverStatus: ...


@dataclass(frozen=True, slots=True)
class ControlStatus:
    """Where a detector is."""

    state: AcqState
    nb_frames_acquired: int
    error: str = ""
    acq_id: AcqId | None = None
    """What it was prepared for last, by whomever; None if never."""
    doubt: str = ""
    """Why it may give no more frames, where it is not certain."""


class ControlPort(Protocol):
    """The control part of the system."""

    name: str

    def prepare(self, acq_id: AcqId, acquisition: Mapping[str, Any]) -> Mapping[str, Any]:
        """Arm; gives the parameters as the detector took them."""
        ...

    def start(self) -> None: ...

    def trigger(self) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def reset(self) -> None: ...

    def status(self) -> ControlStatus: ...

    def detector_info(self) -> Mapping[str, Any]: ...
