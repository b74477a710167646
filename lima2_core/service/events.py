"""What services tell: events to be served by the application in a thread of its own (G27)."""

from __future__ import annotations

from dataclasses import dataclass

from lima2_core.ids import AcqId
from lima2_core.state.device import AcqState


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The acquisition state of a device is another one now."""

    state: AcqState


@dataclass(frozen=True, slots=True)
class RunsChanged:
    """A run was added or removed."""

    acq_ids: tuple[AcqId, ...]


@dataclass(frozen=True, slots=True)
class AcquisitionEnded:
    """The last frame of a run was taken, or its acquisition ended early."""

    acq_id: AcqId
    received: int


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The processing of a run failed; it still ends."""

    acq_id: AcqId


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run has processed all it will ever process; its files are closed, its counters final."""

    acq_id: AcqId


ServiceEvent = StateChanged | RunsChanged | AcquisitionEnded | RunFailed | RunFinished
