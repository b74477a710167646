"""What a detector promises: one control part, and one frame source per receiver and run.

A camera plugin is an entry point of the group ``lima2.cameras`` that names a `CameraPlugin`. A
camera starts no thread, knows no queue, no Tango and no MPI. Its conformance is checked by
`lima2_core.testing.camera_suite`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import IMAGE_OPERATIONS, AcquisitionParams
from lima2_core.clock import Clock, SystemClock
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import Frame, FrameSpec, Gap
from lima2_core.data.geometry import Placement
from lima2_core.data.memory import PoolSet
from lima2_core.flow.channel import OnFull
from lima2_core.ids import AcqId

Scalar = int | float | str | bool


@dataclass(frozen=True, slots=True)
class CameraMessage:
    """What the control part of a camera tells its receiver parts during one acquisition.

    Values are plain, so that the message can cross processes. Receivers ignore messages of
    acquisitions they do not know.
    """

    acq_id: AcqId
    kind: str
    values: Mapping[str, Scalar] = field(default_factory=dict)


class CameraLink(Protocol):
    """Carries messages from the control part of a camera to all its receiver parts."""

    def broadcast(self, message: CameraMessage) -> None:
        """Hand over a message; returns at once, delivery is in order for each receiver."""
        ...


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What a detector is. Becomes metadata of files, so every value must be present."""

    model: str
    sn: str
    rows: int
    cols: int
    pixel_size_m: tuple[float, float]
    """Height and width of a pixel, metres."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a detector can do."""

    trigger_modes: tuple[str, ...]
    expo_time_range_s: tuple[float, float]
    latency_time_range_s: tuple[float, float]
    nb_frames_per_trigger_range: tuple[int, int] = (1, 2**32 - 1)
    image_operations: tuple[str, ...] = IMAGE_OPERATIONS
    """Fields of `ImageParams` that may be other than by default; not told to foreign clients."""


@dataclass(frozen=True, slots=True)
class CameraEnv:
    """What the framework gives to the parts of a camera."""

    properties: Mapping[str, str] = field(default_factory=dict)
    """Settings of the installation: addresses, paths (Tango device properties)."""
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a detector gives no more frames of an acquisition that nobody ended."""

    reason: str
    """In words that name the detector; it becomes part of the verdict of the run."""
    certain: bool = True
    """False where the detector may go on without its control: whether frames come decides."""


class CameraControl(ABC):
    """The control part: configures and drives the detector.

    Threads: one call at a time, except `nb_frames_acquired` and `status`, from any thread.
    """

    @abstractmethod
    def info(self) -> DetectorInfo: ...

    @abstractmethod
    def capabilities(self) -> Capabilities: ...

    @abstractmethod
    def status(self) -> Mapping[str, Scalar]:
        """Present readings; ``temperature`` (degC) and ``humidity`` (%) where they exist."""

    @abstractmethod
    def check(self, params: AcquisitionParams) -> None:
        """Refuse what the detector cannot do, before anything is changed.

        Raises:
            ParamError: the path names the parameter.
        """

    @abstractmethod
    def prepare(
        self, acq_id: AcqId, params: AcquisitionParams, n_receivers: int
    ) -> AcquisitionParams:
        """Configure and arm.

        Returns:
            The parameters as the hardware took them (G16).

        Raises:
            CameraError: the detector refuses or does not answer.
        """

    @abstractmethod
    def start(self) -> None:
        """Begin, or wait for triggers."""

    @abstractmethod
    def trigger(self) -> None:
        """Accept one software trigger; it may wait for the end of the present exposure."""

    @abstractmethod
    def stop(self) -> None:
        """End early; must be harmless at any time."""

    @abstractmethod
    def close(self) -> None:
        """End of the acquisition: back to rest. Must be harmless at any time."""

    @abstractmethod
    def nb_frames_acquired(self) -> int:
        """Frames exposed to their end in the current or last acquisition."""

    def failure(self) -> Failure | None:
        """Why frames that are still due will not come; None if nothing is wrong.

        Asked a few times a second while an acquisition goes on; must answer at once.
        """
        return None

    def release(self) -> None:
        """Let go of the detector for good; must be harmless at any time."""


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """One run of one receiver."""

    acq_id: AcqId
    params: AcquisitionParams
    share: Share


class FrameSource(ABC):
    """The frames of one run on one receiver.

    Called in this order: `resolve` and `open` once at Prepare, then `next_frames` until it
    raises, then `close`.

    Threads: `next_frames` on the acquisition thread only; `deliver` and `interrupt` from any.
    """

    @abstractmethod
    def resolve(self) -> FrameSpec:
        """What every frame will look like. Has no effects and takes no memory.

        Raises:
            ParamError: such frames cannot be made.
        """

    @abstractmethod
    def open(self, pools: PoolSet) -> None:
        """Get ready to deliver; messages may come from now on.

        Raises:
            CameraError, MemoryError: not possible.
        """

    @abstractmethod
    def deliver(self, message: CameraMessage) -> None:
        """Take a message of the control part."""

    @abstractmethod
    def next_frames(self, timeout_s: float) -> Sequence[Frame | Gap]:
        """Give what is there, oldest first; as many at once as have come.

        Returns:
            Frames, and a `Gap` for each frame that was lost; nothing if ``timeout_s`` passed.

        Raises:
            EndOfFrames: the sequence is complete, or was ended by `interrupt`.
            CameraError: the detector failed.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """End early: give what was exposed so far, soon, then `EndOfFrames`."""

    @property
    @abstractmethod
    def keeps_rows(self) -> bool:
        """Whether a gap keeps its row: see `lima2_core.camera.dispatch.keeps_rows`."""

    @abstractmethod
    def expected_frames(self) -> int | None:
        """Frames and gaps this receiver gets if nothing stops the run; None if not known."""

    @property
    def on_full(self) -> OnFull:
        """What happens to frames that find no place in the queue of the receiver.

        A camera that can wait blocks. A detector cannot: it fails, or goes on with gaps.
        """
        return OnFull.BLOCK

    @property
    def placement(self) -> Placement | None:
        """Where the frames lie in those of the whole detector, if this is only a part of them."""
        return None

    @property
    def frame_fields(self) -> tuple[FrameField, ...]:
        """Values that come with every frame, in `Frame.fields`; known once it is resolved."""
        return ()

    @property
    def fill(self) -> float:
        """What pixels read that never came, those of frames that are missing included."""
        return 0

    def spare_frames(self, pools: PoolSet) -> int:
        """Frames that queues behind the pipeline may hold, so that they need no copies of them.

        Of frames that are ``keepable`` they may hold as many as they like.
        """
        return 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What users should know before the start, a sentence each; asked once it is open."""
        return ()

    def close(self) -> None:
        """Let go of everything; must be harmless at any time."""


class CameraReceiver(ABC):
    """The receiver part: makes the source of each run, and keeps what outlives runs."""

    @abstractmethod
    def source(self, request: SourceRequest) -> FrameSource:
        """The source of one run; without effects until it is opened."""

    def counters(self) -> Mapping[str, Any]:
        """What is counted beside frames, as plain values; from any thread."""
        return {}

    def close(self) -> None:
        """Let go of everything."""


@dataclass(frozen=True, slots=True)
class CameraPlugin:
    """What an entry point of the group ``lima2.cameras`` names."""

    name: str
    """As in ``Lima<name>Control``; case matters."""
    params: type[AcquisitionParams]
    make_control: Callable[[CameraEnv, CameraLink], CameraControl]
    make_receiver: Callable[[CameraEnv], CameraReceiver]
    version: str = "core-1.2.0"
    """Of the interface towards clients, as they compare it (contract 02, section 6)."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Names and descriptions of the settings of the installation that the camera reads."""
