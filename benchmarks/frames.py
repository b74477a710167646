"""Frames to measure with, and a camera that gives them as fast as they are taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import detector_frames
from lima2_core.camera.api import CameraMessage, CameraReceiver, FrameSource, SourceRequest
from lima2_core.data.frame import Frame, FrameSpec, Gap
from lima2_core.data.memory import PoolSet
from lima2_core.errors import EndOfFrames
from lima2_core.ids import FrameIdx

SIZE = 2048


def simulated_8_bit(count: int = 16) -> list[NDArray[Any]]:
    """A peak that grows from frame to frame, as the simulated detector draws it.

    Shapes: (1, 2048, 2048) uint8.
    """
    axis = np.arange(SIZE, dtype=np.float32)
    profile = np.exp(-4 * np.log(2) * ((axis - SIZE / 2) / 128) ** 2)
    peak = np.outer(profile, profile)
    return [np.rint(100 * (1 + 0.1 * n) * peak).astype(np.uint8)[None] for n in range(count)]


def photons_16_bit() -> tuple[str, list[NDArray[Any]]]:
    """Photons of a real detector where the data are, else Poisson noise around a smooth image.

    Shapes: (1, 2048, 2048) uint16.
    """
    path = detector_frames()
    if path is not None:
        import h5py
        import hdf5plugin  # noqa: F401  registers the filters

        with h5py.File(path) as file:
            modules = np.clip(np.rint(file["photons"][:]), 0, 65535).astype(np.uint16)
        return "real photons", [np.tile(module, (4, 2))[None] for module in modules]
    random = np.random.default_rng(1)
    rate = 3.0 * np.outer(np.hanning(SIZE), np.hanning(SIZE)) + 0.05
    return "Poisson", [random.poisson(rate).astype(np.uint16)[None] for _ in range(4)]


class ListCamera(CameraReceiver):
    """Gives ``nb_frames`` references to ``images``, in turn, without waiting."""

    def __init__(self, images: Sequence[NDArray[Any]], nb_frames: int) -> None:
        self._images = images
        self._nb_frames = nb_frames

    def source(self, request: SourceRequest) -> FrameSource:
        return _ListSource(self._images, self._nb_frames)


class _ListSource(FrameSource):
    keeps_rows = True

    def __init__(self, images: Sequence[NDArray[Any]], nb_frames: int) -> None:
        self._images = images
        self._nb_frames = nb_frames
        self._next = 0

    def resolve(self) -> FrameSpec:
        bands, rows, cols = self._images[0].shape
        return FrameSpec((bands, rows, cols), self._images[0].dtype)

    def expected_frames(self) -> int | None:
        return self._nb_frames

    def open(self, pools: PoolSet) -> None:
        self._next = 0

    def deliver(self, message: CameraMessage) -> None:
        """Nothing is told to it."""

    def next_frames(self, timeout_s: float) -> Sequence[Frame | Gap]:
        first, last = self._next, min(self._next + 16, self._nb_frames)
        if first == last:
            raise EndOfFrames
        self._next = last
        count = len(self._images)
        return [
            Frame(FrameIdx(idx), self._images[idx % count], keepable=True)
            for idx in range(first, last)
        ]

    def interrupt(self) -> None:
        self._nb_frames = self._next
