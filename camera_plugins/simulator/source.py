"""The receiver part of the simulated detector: frames that refer to images drawn beforehand."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from camera_plugins.simulator.control import detector_size, life_of
from camera_plugins.simulator.params import GeneratorParams, SimulatorParams
from camera_plugins.simulator.patterns import draw, nb_images
from camera_plugins.simulator.view import View, view_of
from lima2_core.camera.api import CameraEnv, CameraReceiver, SourceRequest
from lima2_core.camera.exposures import Exposures
from lima2_core.camera.paced import BATCH, PacedSource
from lima2_core.data.frame import PIXEL_TYPES, Frame, FrameSpec, Gap, Validity
from lima2_core.data.geometry import Placement
from lima2_core.data.memory import Lease, PoolSet
from lima2_core.errors import CameraError, ParamError

Image = tuple[NDArray[Any], Lease]


@dataclass(frozen=True, slots=True)
class _Recipe:
    """All that the images depend on."""

    generator: GeneratorParams
    view: View
    count: int


class SimulatorReceiver(CameraReceiver):
    """Keeps the images of the last run, for the next one that wants the same."""

    def __init__(self, env: CameraEnv) -> None:
        self._env = env
        self._size = detector_size(env)
        self._lock = threading.Lock()
        self._recipe: _Recipe | None = None
        self._pools: PoolSet | None = None
        self._images: Sequence[Image] = ()

    def source(self, request: SourceRequest) -> SimulatorSource:
        return SimulatorSource(self, request, self._env)

    def close(self) -> None:
        with self._lock:
            self._forget()

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the detector."""
        return self._size

    def images(self, recipe: _Recipe, spec: FrameSpec, pools: PoolSet) -> Sequence[Image]:
        """The images of ``recipe``, drawn into leases of ``pools`` unless they are there.

        Raises:
            ParamError: there is no memory for so many.
        """
        with self._lock:
            if recipe != self._recipe or pools is not self._pools:
                self._forget()
                images = _leased(recipe.count, spec, pools)
                draw(recipe.generator, recipe.view, self._size, [image for image, _ in images])
                self._recipe, self._pools, self._images = recipe, pools, images
            return self._images

    def _forget(self) -> None:
        # Frames that are still on their way keep the images that they show.
        self._recipe, self._pools, self._images = None, None, ()


def _leased(count: int, spec: FrameSpec, pools: PoolSet) -> Sequence[Image]:
    try:
        leases = _leases(count, spec.nbytes, pools)
    except MemoryError:
        # Images of earlier geometries may still be taking room.
        pools.trim()
        try:
            leases = _leases(count, spec.nbytes, pools)
        except MemoryError as error:
            raise ParamError(str(error), path="det.nb_prefetch_frames") from error
    return tuple((lease.array(spec.shape, spec.dtype), lease) for lease in leases)


def _leases(count: int, nbytes: int, pools: PoolSet) -> list[Lease]:
    pool = pools.pool("simulator", nbytes)
    stats = pool.stats()
    missing = stats.in_use + count - stats.slots
    if missing > 0:
        pools.fitting(pool.slot_bytes, missing, least=missing)
        pool.grow(stats.slots + missing)
    leases = [lease for _ in range(count) if (lease := pool.lease()) is not None]
    if len(leases) < count:
        raise MemoryError(f"only {len(leases)} of {count} buffers for images were free")
    return leases


class SimulatorSource(PacedSource):
    """Gives references to images drawn beforehand, each when its exposure ends.

    Shapes: (bands, rows, cols) as resolved, ADU.
    """

    def __init__(self, receiver: SimulatorReceiver, request: SourceRequest, env: CameraEnv) -> None:
        params = request.params
        if not isinstance(params, SimulatorParams):
            raise TypeError(f"the simulator takes SimulatorParams, not {type(params).__name__}")
        super().__init__(
            request,
            env.clock,
            mode=params.det.dispatch_mode,
            nb_frames=params.acq.nb_frames,
            exposures=Exposures.asked_by(params.acq),
        )
        self._receiver = receiver
        self._params = params
        self._share = request.share
        self._life = life_of(params)
        """Frames that the detector exposes before it dies."""
        self._images: Sequence[Image] = ()

    def resolve(self) -> FrameSpec:
        generator = self._params.det.generator
        view = self._view()
        return FrameSpec(
            shape=(generator.nb_channels, view.roi.rows, view.roi.cols),
            dtype=PIXEL_TYPES[generator.pixel_type],
            affine=view.affine,
        )

    def open(self, pools: PoolSet) -> None:
        det = self._params.det
        recipe = _Recipe(
            det.generator, self._view(), nb_images(det.generator, det.nb_prefetch_frames)
        )
        self._images = self._receiver.images(recipe, self.resolve(), pools)

    def close(self) -> None:
        self._images = ()

    @property
    def placement(self) -> Placement | None:
        if not self._is_partial:
            return None
        whole = view_of(self._params.img, *self._receiver.size).roi
        return Placement(self._share.strip(whole.rows)[0], 0, whole.rows, whole.cols)

    @property
    def _is_partial(self) -> bool:
        return self._params.det.dispatch_mode == "partial_frame"

    def _view(self) -> View:
        """What this receiver gets to see.

        Raises:
            ParamError: there is nothing left for it.
        """
        view = view_of(self._params.img, *self._receiver.size)
        if not self._is_partial:
            return view
        rows, count = view.roi.rows, self._share.n_receivers
        if rows < count:
            raise ParamError(
                f"the {rows} rows of the image cannot be split among {count} receivers; use a "
                "larger image, or another mode",
                path="det.dispatch_mode",
            )
        return view.strip(*self._share.strip(rows))

    def _ready(self, now_s: float) -> int:
        return min(super()._ready(now_s), self._life)

    def _next_event_s(self) -> float:
        if self._next >= self._life and self._interrupted_s is None:
            return math.inf  # who waits for a dead detector is told when it is known
        return super()._next_event_s()

    def _take(self, ready: int) -> list[Frame | Gap]:
        det = self._params.det
        images = self._images
        frames: list[Frame | Gap] = []
        idx = self._next
        while idx < ready and len(frames) < BATCH:
            if idx and idx == det.failed_frame_idx:
                if frames:
                    break  # those before it come first
                raise CameraError(
                    f"the simulated detector fails at frame {idx}, as det.failed_frame_idx asks",
                    frame_idx=idx,
                )
            if idx and idx == det.dropped_frame_idx:
                frames.append(Gap(idx, Validity.DROPPED, "dropped by the simulated detector"))
            else:
                data, lease = images[idx % len(images)]
                frames.append(Frame(idx, data, lease, True, self._timestamp_s(idx)))
            idx = next(self._indices)
        self._next = idx
        return frames
