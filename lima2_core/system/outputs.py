"""What a whole run writes or publishes: plugins of the group ``lima2.outputs``.

An output looks at a run through a `RunView` and is called on a thread of its own, so that a slow
disk or a dead server delays nothing else. If it fails, the run goes on without it and says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.data.record import RecordStream
from lima2_core.flow.pipeline import SavedFiles
from lima2_core.ids import AcqId
from lima2_core.system.ledger import Ledger
from lima2_core.system.notes import NoteSeries


@dataclass(frozen=True, slots=True)
class SavedView:
    """Frames of one source as all receivers save them."""

    name: str
    spec: FrameSpec
    """Of whole frames."""
    files: tuple[SavedFiles, ...]
    """By receiver."""
    placements: tuple[Placement, ...]
    """By receiver, where each has a part of every frame; else empty."""
    part_specs: tuple[FrameSpec, ...]
    """By receiver: what is in its files."""
    ledger: Ledger
    """Which receiver has which frame, in which row. Indices are those of this source."""
    flushed: Callable[[int], int]
    """Rows of a receiver that are safe in its files by now."""
    fill: float = 0
    """What pixels read that are in no file."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One run of the system, to look at; everything in it may be read from any thread."""

    acq_id: AcqId
    device: str
    """Name under which frames and progress of this run can be asked for; empty without one."""
    detector: Mapping[str, Any]
    requested: Mapping[str, Any]
    """Acquisition parameters as asked for."""
    applied: Mapping[str, Any]
    """The same as the detector took them."""
    processing: Mapping[str, Any]
    metadata: Mapping[str, Any]
    """What the user wants to have with the data."""
    receivers: tuple[str, ...]
    topology: str
    ledger: Ledger
    """Of the frames as they came from the detector."""
    sources: Mapping[str, FrameSpec]
    """Frames that can be fetched, as whole frames."""
    saved: Mapping[str, SavedView]
    streams: Mapping[str, RecordStream]
    """Merged records, in frame order."""
    started_wall_s: Callable[[], float]
    finished: Callable[[], bool]
    """Whether all receivers have ended, so that nothing more will come."""
    verdict: Callable[[], str]
    accessible: Callable[[str], int] = field(default=lambda source: 0)
    """Frames of a source that can be fetched: all below this index, gaps counted."""
    depth_of: Callable[[str], int] = field(default=lambda name: 1)
    """Frames of the detector in one frame of a source, or in one entry of a stream."""
    expected_of: Callable[[str], int | None] = field(default=lambda name: None)
    """Frames of a source, or frames that give records to a stream; None if not known."""
    causes: Callable[[], Sequence[str]] = tuple
    """What went wrong so far, in sentences."""
    notes: Callable[[], Mapping[str, NoteSeries]] = dict
    """What clients have attached to it so far, by name; all of it once it is finished."""


@dataclass(frozen=True, slots=True, eq=False)
class Survivors:
    """What is left in the files of a receiver that died.

    Shapes: ``untold``, ``codes`` (rows of which the receiver told nothing,): their frame indices
    and what they are, `Validity`; None where the files do not say so.
    """

    rows: int
    untold: NDArray[np.int64] | None = None
    codes: NDArray[np.uint8] | None = None


class RunOutput(ABC):
    """One output of one run.

    Called in this order: `check` once, `open` once, `update` again and again, `finish` once. All on
    one thread.
    """

    name: str = "output"

    def check(self, run: RunView) -> None:
        """Refuse a run that could not be written, before anything is changed.

        What takes longer than `lima2_core.system.output_thread.CHECK_S` is not waited for.

        Raises:
            ParamError: the prepare is refused; its path leads from ``processing`` on.
        """

    @abstractmethod
    def open(self, run: RunView) -> None:
        """Get ready; the run is prepared and not started yet."""

    @abstractmethod
    def update(self) -> None:
        """Look what is new, and write it."""

    @abstractmethod
    def finish(self) -> None:
        """Write all that is left; the run is finished, its ledgers are final."""

    def end_live_frames(self) -> None:
        """Frames cannot be asked for any more at the device of the run; from any thread."""

    def survivors(self, source: str, receiver: int) -> Survivors | None:
        """What is readable in the files of a receiver that died; None if not known."""
        return None

    def results(self) -> Sequence[str]:
        """What was made: files, or addresses."""
        return ()

    @property
    def trouble(self) -> str:
        """What does not work at present, for people; empty if all is well."""
        return ""


@dataclass(frozen=True, slots=True)
class OutputPlugin:
    """What an entry point of the group ``lima2.outputs`` names."""

    name: str
    make: Callable[[Mapping[str, str]], RunOutput | None]
    """Make the output of one run from the settings of the installation; None if it is off."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Names and descriptions of the settings."""
