"""How large the pixels of images are, and how long one takes: what NeXus has fixed names for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from lima2_core.data.frame import FrameSpec
from lima2_core.system.outputs import RunView


def write_scale(detector: h5py.Group, run: RunView, spec: FrameSpec) -> None:
    """Pixel sizes of the images and the time of one exposure, as far as they are known."""
    size = run.detector.get("pixel_size")
    if isinstance(size, Mapping) and {"x", "y"} <= size.keys():
        # One pixel further in the image is so many pixels further on the detector.
        steps = spec.affine.matrix[:2, :2] * np.array([[float(size["y"])], [float(size["x"])]])
        down, along = np.linalg.norm(steps, axis=0)
        _write(detector, "y_pixel_size", down, "m")
        _write(detector, "x_pixel_size", along, "m")
    acq: Mapping[str, Any] = run.applied.get("acq", {})
    if "expo_time" in acq:
        _write(detector, "count_time", float(acq["expo_time"]) * 1e-6, "s")


def _write(detector: h5py.Group, name: str, value: float, unit: str) -> None:
    detector[name] = float(value)
    detector[name].attrs["units"] = unit
