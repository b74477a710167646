"""A detector in the hands of a test."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lima2_core.camera.api import (
    CameraControl,
    CameraEnv,
    CameraLink,
    CameraMessage,
    CameraPlugin,
    CameraReceiver,
    Capabilities,
    DetectorInfo,
    Failure,
    FrameSource,
    Scalar,
    SourceRequest,
)
from lima2_core.camera.params import AcquisitionParams
from lima2_core.data.fields import FrameField, fields_dtype
from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.memory import BufferPool, PoolSet
from lima2_core.errors import CameraError, EndOfFrames
from lima2_core.ids import AcqId, FrameIdx
from lima2_core.schema import ParamsModel

_ENDLESS = 10**9


class FakeDetParams(ParamsModel):
    """What goes wrong."""

    gaps: tuple[int, ...] = ()
    """Frames that are lost, as the detector says."""
    vanish: tuple[int, ...] = ()
    """Frames that never come, without a word."""
    fail_at: int = -1
    """The frame in whose place the detector breaks."""


class FakeCameraParams(AcquisitionParams):
    """Acquisition parameters of the stand-in."""

    det: FakeDetParams = FakeDetParams()


def pixels_of(idx: int, rows: int = 2, cols: int = 3) -> NDArray[np.uint16]:
    """The image that `FakeCamera` gives as frame ``idx``: all pixels are its number."""
    return np.full((1, rows, cols), idx, np.uint16)


FIELDS = (
    FrameField("bunch_id", np.dtype(np.uint64), doc="bunch that made the frame"),
    FrameField("delay", np.dtype(np.float32), unit="s"),
    FrameField("packets", np.dtype(np.uint8), (2,), doc="bit n: packet n came"),
)
"""What the stand-in can tell of every frame."""


def told_of(idx: int) -> np.void:
    """What `FakeCamera` tells of frame ``idx``."""
    record: np.void = np.array([(1000 + idx, idx / 2, (255, idx))], fields_dtype(FIELDS))[0]
    return record


class FakeCamera:
    """A detector in the hands of the test: small frames that hold their own number.

    Frames come at once, as many as there are ``buffers`` for, unless the test holds them back with
    `hold` and lets them go with `expose`.

    Threads: everything from any thread.
    """

    def __init__(self, buffers: int = 8, keepable: bool = True, *, fields: bool = False) -> None:
        self.buffers = buffers
        self.keepable = keepable
        """What its frames say of themselves."""
        self.fields = FIELDS if fields else ()
        """Values that come with every frame."""
        self.calls: list[str] = []
        """Calls to the control part, in order."""
        self.broken: dict[str, Exception] = {}
        """What the named methods raise: of the control part, and ``open`` of a source."""
        self.failure: Failure | None = None
        """What the control part knows of a failure."""
        self.sources: list[FakeSource] = []
        """One for each run that was opened or only planned."""
        self.messages: list[CameraMessage] = []
        """Messages that sources took."""
        self.closed = False
        """Whether the receiver part was closed."""
        self.exposed = _ENDLESS
        """Frames below this index may come."""
        self.changed = threading.Condition()
        self.plugin = CameraPlugin(
            "Fake",
            FakeCameraParams,
            make_control=lambda env, link: FakeControl(self, link),
            make_receiver=self._make_receiver,
        )

    def hold(self) -> None:
        """Hold all frames back."""
        self.expose(0)

    def expose(self, until: int) -> None:
        """Let the frames below the index ``until`` come."""
        with self.changed:
            self.exposed = until
            self.changed.notify_all()

    def note(self, call: str) -> None:
        """Remember a call, and fail if that was asked for."""
        self.calls.append(call)
        if call in self.broken:
            raise self.broken[call]

    def _make_receiver(self, env: CameraEnv) -> CameraReceiver:
        return FakeReceiver(self)


class FakeControl(CameraControl):
    """The control part: notes the calls, and tells the sources when it starts and stops."""

    def __init__(self, camera: FakeCamera, link: CameraLink) -> None:
        self._camera = camera
        self._link = link
        self._acq_id = AcqId("")

    def info(self) -> DetectorInfo:
        return DetectorInfo("Fake", "0", 2, 3, (1e-6, 2e-6))

    def capabilities(self) -> Capabilities:
        return Capabilities(("internal", "software"), (1e-6, 10.0), (0.0, 1.0))

    def status(self) -> Mapping[str, Scalar]:
        return {"temperature": 20.0}

    def check(self, params: AcquisitionParams) -> None:
        self._camera.note("check")

    def prepare(
        self, acq_id: AcqId, params: AcquisitionParams, n_receivers: int
    ) -> AcquisitionParams:
        self._camera.note("prepare")
        self._acq_id = acq_id
        # The hardware has its own idea of time: steps of 10 us.
        expo_time = max(10, params.acq.expo_time // 10 * 10)
        acq = params.acq.model_copy(update={"expo_time": expo_time})
        return params.model_copy(update={"acq": acq})

    def start(self) -> None:
        self._tell("start")

    def trigger(self) -> None:
        self._tell("trigger")

    def stop(self) -> None:
        self._camera.note("stop")

    def close(self) -> None:
        self._camera.note("close")

    def nb_frames_acquired(self) -> int:
        return self._camera.calls.count("trigger")

    def failure(self) -> Failure | None:
        if "failure" in self._camera.broken:
            raise self._camera.broken["failure"]
        return self._camera.failure

    def _tell(self, what: str) -> None:
        self._camera.note(what)
        self._link.broadcast(CameraMessage(self._acq_id, what))


class FakeReceiver(CameraReceiver):
    """The receiver part."""

    def __init__(self, camera: FakeCamera) -> None:
        self._camera = camera

    def source(self, request: SourceRequest) -> FrameSource:
        source = FakeSource(self._camera, request)
        self._camera.sources.append(source)
        return source

    def close(self) -> None:
        self._camera.closed = True


class FakeSource(FrameSource):
    """The frames of one run, dealt out in turn."""

    def __init__(self, camera: FakeCamera, request: SourceRequest) -> None:
        params = request.params
        assert isinstance(params, FakeCameraParams)
        self._camera = camera
        self._share = request.share
        self._det = params.det
        self._nb_frames = params.acq.nb_frames or _ENDLESS
        self._next = int(request.share.receiver)
        self._pool: BufferPool | None = None
        self._interrupted = False
        self.opened = False
        self.closed = False

    def resolve(self) -> FrameSpec:
        return FrameSpec((1, 2, 3), np.dtype(np.uint16))

    def open(self, pools: PoolSet) -> None:
        self.opened = True
        if "open" in self._camera.broken:
            raise self._camera.broken["open"]
        self._pool = pools.pool("frames", self.resolve().nbytes)
        # Runs that drain keep theirs.
        self._pool.grow(self._pool.stats().in_use + self._camera.buffers)

    def deliver(self, message: CameraMessage) -> None:
        self._camera.messages.append(message)

    def next_frames(self, timeout_s: float) -> Sequence[Frame | Gap]:
        changed = self._camera.changed
        with changed:
            changed.wait_for(lambda: self._interrupted or self._is_over or self._is_due, timeout_s)
            free_running = self._camera.exposed == _ENDLESS
            if self._is_over or (self._interrupted and (free_running or not self._is_due)):
                raise EndOfFrames
            if not self._is_due:
                return ()
        idx = FrameIdx(self._next)
        if idx == self._det.fail_at:
            raise CameraError(f"the detector broke at frame {idx}", frame_idx=idx)
        item = self._item(idx, timeout_s)
        if item is None:
            return ()
        self._next += self._share.n_receivers
        return () if idx in self._det.vanish else (item,)

    @property
    def _is_over(self) -> bool:
        return self._next >= self._nb_frames

    @property
    def _is_due(self) -> bool:
        return self._next < self._camera.exposed

    def _item(self, idx: FrameIdx, timeout_s: float) -> Frame | Gap | None:
        if idx in self._det.gaps:
            return Gap(idx, Validity.DROPPED, "the detector lost it")
        assert self._pool is not None
        lease = self._pool.lease(timeout_s)
        if lease is None:
            return None
        data = lease.array((1, 2, 3), np.uint16)
        data[...] = idx
        fields = told_of(idx) if self._camera.fields else None
        return Frame(idx, data, lease, keepable=self._camera.keepable, fields=fields)

    def interrupt(self) -> None:
        with self._camera.changed:
            self._interrupted = True
            self._camera.changed.notify_all()

    @property
    def keeps_rows(self) -> bool:
        return True

    @property
    def frame_fields(self) -> tuple[FrameField, ...]:
        return self._camera.fields

    def expected_frames(self) -> int | None:
        nb_frames = self._nb_frames
        return self._share.count(nb_frames) if nb_frames < _ENDLESS else None

    def close(self) -> None:
        self.closed = True
        self._pool = None
