"""What the demonstration acquires, and what every pixel of it has to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lima2_core import open_camera
from lima2_core.errors import CameraError, ParamError

SIMULATED_FRAMES = 300
SIMULATED_EXPOSURE_S = 0.01
RECORDED_EXPOSURE_S = 0.1
"""Longer: recordings have few frames, and there should be something to see."""
DEFAULT_DATASET = "/entry_0000/measurement/data"
LATENCY_US = 10
_IMAGES = 8


class Reference(Protocol):
    """The frames as they have to arrive, from a source that no server has touched."""

    name: str
    """What they are called in sentences."""

    def frame(self, idx: int) -> NDArray[Any]:
        """Frame ``idx`` of the acquisition.

        Shapes: (bands, rows, cols).
        """
        ...

    def agrees(self, idx: int, pixels: NDArray[Any]) -> bool:
        """Whether ``pixels`` are what frame ``idx`` has to be."""
        ...

    def measured(self, pixels: NDArray[Any]) -> NDArray[np.bool_]:
        """Which pixels take part in statistics, though all do in the maximum."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """One acquisition of the demonstration.

    Shapes: ``shape`` is (bands, rows, cols).
    """

    title: str
    deployment: str
    nb_frames: int
    expo_time_s: float
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    detector: Mapping[str, Any]
    """The group ``det`` of the acquisition parameters."""
    reference: Reference
    processing: Mapping[str, Any] = field(default_factory=dict)
    """What is to be changed in the default parameters of the pipeline, by group."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Device properties that the camera reads."""

    @property
    def frame_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def latency_s(self) -> float:
        return LATENCY_US / 1e6

    @property
    def acquisition(self) -> dict[str, Any]:
        """What is to be changed in the default acquisition parameters, by group."""
        expo_time_us = round(self.expo_time_s * 1e6)
        acq = {
            "nb_frames": self.nb_frames,
            "expo_time": expo_time_us,
            "latency_time": LATENCY_US,
        }
        return {"acq": acq, "det": dict(self.detector)}

    @property
    def roi(self) -> tuple[slice, slice]:
        """Rows and columns of the region of the statistics: the central quarter."""
        _, rows, cols = self.shape
        # One row or column at least.
        return slice(rows // 4, rows // 4 + (rows + 1) // 2), slice(
            cols // 4, cols // 4 + (cols + 1) // 2
        )

    @property
    def roi_params(self) -> dict[str, Any]:
        """The same as a parameter."""
        rows, cols = self.roi
        return {
            "topleft": {"x": cols.start, "y": rows.start},
            "dimensions": {"x": cols.stop - cols.start, "y": rows.stop - rows.start},
        }


def simulated(nb_frames: int | None, expo_time_s: float | None, drop: int | None) -> Plan:
    """Frames of the simulated detector.

    Args:
        nb_frames: None for `SIMULATED_FRAMES`.
        expo_time_s: None for `SIMULATED_EXPOSURE_S`.
        drop: a frame that the detector is to lose.

    Raises:
        ParamError: this frame is not one of the acquisition, or one that cannot be dropped.
    """
    nb_frames = SIMULATED_FRAMES if nb_frames is None else nb_frames
    if drop is not None and not 0 < drop < nb_frames:
        raise ParamError(f"a frame from 1 to {nb_frames - 1} is wanted, not {drop}", path="--drop")
    detector = {
        "nb_prefetch_frames": _IMAGES,
        "generator": {
            "type": "gauss",
            "pixel_type": "gray16",
            "gauss": {"grow_factor": 0.1, "peaks": _peaks()},
        },
    }
    images = _draw(detector)
    _, rows, cols = images[0].shape
    return Plan(
        title=f"{nb_frames} simulated frames of {cols} x {rows} pixels",
        deployment="round_robin_2",
        nb_frames=nb_frames,
        expo_time_s=SIMULATED_EXPOSURE_S if expo_time_s is None else expo_time_s,
        shape=images[0].shape,
        dtype=images[0].dtype,
        detector=detector if drop is None else {**detector, "dropped_frame_idx": drop},
        reference=_Images("the simulated images", images),
    )


def recorded(source: str, nb_frames: int | None, expo_time_s: float | None) -> Plan:
    """Frames of a dataset in an HDF5 file.

    Args:
        source: ``FILE::DATASET``, or a file with frames in `DEFAULT_DATASET`.
        nb_frames: None for all; more than there are: the recording is repeated.
        expo_time_s: None for `RECORDED_EXPOSURE_S`.

    Raises:
        ParamError: there is no such file or dataset, or it holds no frames.
    """
    name, _, dataset = source.partition("::")
    path = Path(name).resolve()  # a server has another working directory
    reference = _Recording(path, dataset or DEFAULT_DATASET)
    there = reference.nb_frames
    nb_frames = there if nb_frames is None else nb_frames
    _, rows, cols = reference.shape
    return Plan(
        title=f"{nb_frames} recorded frames of {cols} x {rows} pixels from {path}",
        deployment="reader_2",
        nb_frames=nb_frames,
        expo_time_s=RECORDED_EXPOSURE_S if expo_time_s is None else expo_time_s,
        shape=reference.shape,
        dtype=reference.dtype,
        detector={"file": f"{path}::{dataset or DEFAULT_DATASET}", "loop": nb_frames > there},
        reference=reference,
    )


def same_pixels(image: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Whether two frames are equal in shape and in every pixel."""
    return np.array_equal(image, expected, equal_nan=expected.dtype.kind == "f")


class _Images:
    """A few images in turn."""

    def __init__(self, name: str, images: Sequence[NDArray[Any]]) -> None:
        self.name = name
        self._images = images

    def frame(self, idx: int) -> NDArray[Any]:
        return self._images[idx % len(self._images)]

    def agrees(self, idx: int, pixels: NDArray[Any]) -> bool:
        return same_pixels(pixels, self.frame(idx))

    def measured(self, pixels: NDArray[Any]) -> NDArray[np.bool_]:
        return np.ones(pixels.shape, np.bool_)


class _Recording:
    """A dataset, read directly."""

    name = "the input"

    def __init__(self, path: Path, dataset: str) -> None:
        import h5py
        import hdf5plugin  # noqa: F401  registers the compression filters

        self._path = path
        self._name = dataset
        try:
            with h5py.File(path, "r") as file:
                found = file.get(dataset)
                if not isinstance(found, h5py.Dataset) or found.ndim not in (3, 4):
                    raise ParamError(
                        f"{path} has no frames in {dataset}: a dataset (frames, rows, columns) or "
                        "(frames, bands, rows, columns) is wanted, given as FILE::DATASET",
                        path="--input",
                    )
                self.nb_frames = int(found.shape[0])
                self.shape = tuple(int(length) for length in (1, *found.shape[1:])[-3:])
                self.dtype = found.dtype.newbyteorder("=")
        except OSError as error:
            raise ParamError(f"{path} cannot be read as HDF5: {error}", path="--input") from error
        if self.nb_frames == 0 or 0 in self.shape:
            raise ParamError(f"{dataset} of {path} is empty", path="--input")

    def frame(self, idx: int) -> NDArray[Any]:
        import h5py
        import hdf5plugin  # noqa: F401

        with h5py.File(self._path, "r") as file:
            image: NDArray[Any] = file[self._name][idx % self.nb_frames]
        return image.reshape(self.shape)

    def agrees(self, idx: int, pixels: NDArray[Any]) -> bool:
        return same_pixels(pixels, self.frame(idx))

    def measured(self, pixels: NDArray[Any]) -> NDArray[np.bool_]:
        return np.ones(pixels.shape, np.bool_)


def _peaks() -> list[dict[str, float]]:
    """A broad background and two rings of six spots, the outer ones weaker."""
    peaks = [{"x0": 1024.0, "y0": 1024.0, "fwhm": 900.0, "max": 40.0}]
    for radius, height, turn in ((380, 3000.0, 0.0), (760, 600.0, 0.5)):
        for number in range(6):
            angle = (number + turn) * np.pi / 3
            x0, y0 = 1024 + radius * np.cos(angle), 1024 + radius * np.sin(angle)
            peaks.append({"x0": float(x0), "y0": float(y0), "fwhm": 60.0, "max": height})
    return peaks


def _draw(detector: Mapping[str, Any]) -> list[NDArray[Any]]:
    """All different images of the simulator, taken from the camera in this process."""
    params = {"acq": {"nb_frames": _IMAGES, "expo_time": 1, "latency_time": 0}, "det": detector}
    with open_camera("Simulator", params) as camera:
        images = [np.array(frame.data) for frame in camera]
    if len(images) != _IMAGES:
        raise CameraError(f"The simulator gave {len(images)} of {_IMAGES} images")
    return images
