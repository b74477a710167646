"""The receiver part of the camera that plays files: reads ahead while no frame is due."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera_plugins.reader._sdk import FileError, FrameFile
from camera_plugins.reader.control import frames_to_play, recording_of
from camera_plugins.reader.files import Recording
from camera_plugins.reader.params import ReaderParams
from lima2_core.camera.api import CameraEnv, CameraReceiver, SourceRequest
from lima2_core.camera.exposures import ENDLESS, Exposures
from lima2_core.camera.paced import BATCH, PacedSource
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import PRESENT, Frame, FrameSpec, Gap, Validity
from lima2_core.data.memory import BufferPool, Lease, PoolSet
from lima2_core.errors import CameraError, ParamError
from lima2_core.ids import FrameIdx

_OPEN_LIMIT_S = 0.5
"""How long Prepare may take for reading ahead."""
_LEASE_WAIT_S = 0.02
"""How long to wait for a free buffer before looking around again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Recorded:
    """A frame that was read, or one that is missing in the file: then without data."""

    validity: Validity
    data: NDArray[Any] | None = None
    lease: Lease | None = None
    fields: np.void | None = None


class ReaderReceiver(CameraReceiver):
    """Keeps nothing from run to run: the next one may play other files."""

    def __init__(self, env: CameraEnv) -> None:
        self._env = env

    def source(self, request: SourceRequest) -> ReaderSource:
        return ReaderSource(request, self._env)


class ReaderSource(PacedSource):
    """Gives recorded frames, dealt out in turn, each when its exposure would end.

    What a file of this suite tells of a frame comes with it again, and frames that are missing
    there are gaps here.

    Shapes: (bands, rows, cols) as recorded.
    """

    def __init__(self, request: SourceRequest, env: CameraEnv) -> None:
        params = request.params
        if not isinstance(params, ReaderParams):
            raise TypeError(f"the reader takes ReaderParams, not {type(params).__name__}")
        self._fast = params.det.as_fast_as_possible
        exposures = Exposures.asked_by(params.acq, at_once=self._fast)
        super().__init__(request, env.clock, nb_frames=params.acq.nb_frames, exposures=exposures)
        self._env = env
        self._params = params
        self._recording: Recording | None = None
        self._pool: BufferPool | None = None
        self._file: FrameFile | None = None
        self._file_number = -1
        self._ahead: deque[_Recorded] = deque()
        """The frames from `_next` on that have been read."""
        self._unreadable = False
        """Whether reading ahead has met a frame that cannot be read."""

    def resolve(self) -> FrameSpec:
        self._recording = recording_of(self._params, self._env)
        self._nb_frames = frames_to_play(self._params, self._recording) or ENDLESS
        return FrameSpec(shape=self._recording.shape, dtype=self._recording.dtype)

    @property
    def frame_fields(self) -> tuple[FrameField, ...]:
        return () if self._recording is None else self._recording.fields

    def open(self, pools: PoolSet) -> None:
        nbytes = self.resolve().nbytes
        try:
            self._pool = self._grown_pool(nbytes, pools)
        except MemoryError:
            # Frames of earlier sizes may still be taking room.
            pools.trim()
            try:
                self._pool = self._grown_pool(nbytes, pools)
            except MemoryError as error:
                raise ParamError(str(error), path="det.nb_prefetch_frames") from error
        until_s = self._clock.now_s() + _OPEN_LIMIT_S
        while self._clock.now_s() < until_s and self._work_ahead():
            pass

    def close(self) -> None:
        self._ahead.clear()
        self._pool = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _grown_pool(self, nbytes: int, pools: PoolSet) -> BufferPool:
        """A pool with room for what is read ahead, and as much again for frames on their way."""
        pool = pools.pool("reader", nbytes)
        stats = pool.stats()
        least = self._params.det.nb_prefetch_frames + 1
        missing = stats.in_use + 2 * least - stats.slots
        if missing > 0:
            slots = pools.fitting(pool.slot_bytes, missing, least=min(missing, least))
            pool.grow(stats.slots + slots)
        return pool

    def _take(self, ready: int) -> list[Frame | Gap]:
        frames: list[Frame | Gap] = []
        while self._next < ready and len(frames) < BATCH:
            if not self._ahead and (frames or not self._read(self._next, _LEASE_WAIT_S)):
                break  # what is there need not wait for the next to be read
            read = self._ahead.popleft()
            if read.data is None:
                frames.append(Gap(self._next, read.validity, "it is missing in the file"))
            else:
                time_s = self._clock.wall_s() if self._fast else self._timestamp_s(self._next)
                # Not keepable: who holds them holds up the reading.
                frames.append(
                    Frame(
                        self._next, read.data, read.lease, False, time_s, read.validity, read.fields
                    )
                )
            self._next = next(self._indices)
        return frames

    def _work_ahead(self) -> bool:
        frame = self._next + self._request.share.n_receivers * len(self._ahead)
        enough = len(self._ahead) >= self._params.det.nb_prefetch_frames
        if enough or self._unreadable or frame >= self._nb_frames:
            return False
        try:
            return self._read(FrameIdx(frame), 0.0)
        except CameraError:
            # The frames before come first; when this one is due, the same error tells of it.
            self._unreadable = True
            return False

    def _read(self, frame: FrameIdx, wait_s: float) -> bool:
        """Read a frame behind those that are there; False if no buffer is free.

        Raises:
            CameraError: the file is not what it was when it was looked up.
        """
        recording, pool = self._recording, self._pool
        if recording is None or pool is None:
            raise CameraError("the reader is not open")
        number, place = recording.place(frame)
        try:
            file = self._opened(recording, number)
            if place >= file.nb_frames:
                raise FileError(
                    f"{recording.files[number]} ends after {file.nb_frames} frames, "
                    f"{place + 1} were expected"
                )
            validity, fields = file.row(place)
            if validity not in PRESENT:
                self._ahead.append(_Recorded(validity))
                return True
            lease = pool.lease(wait_s)
            if lease is None:
                return False
            image = lease.array(recording.shape, recording.dtype)
            file.read(place, image)
        except FileError as error:
            raise CameraError(
                f"frame {frame} cannot be played: {error}", frame_idx=frame
            ) from error
        self._ahead.append(_Recorded(validity, image, lease, fields))
        return True

    def _opened(self, recording: Recording, number: int) -> FrameFile:
        if self._file is None or number != self._file_number:
            if self._file is not None:
                self._file.close()
                self._file = None
            self._file = recording.open(number)
            self._file_number = number
        return self._file
