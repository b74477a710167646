"""What stands for pixels that have no number, and what becomes of it in the steps of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 65536
"""Pixels looked at at once: intermediate results stay in the cache."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The values of pixels that were not measured, in images of one type."""

    dtype: np.dtype[Any]
    no_value: float
    """Masked, missing, or between modules. 0 is no mark: such a pixel cannot be told from one
    that measured nothing."""
    saturated: float

    @classmethod
    def of(cls, output: str | np.dtype[Any], *, zero: bool = False) -> Marks:
        """The marks of an output type; ``zero`` makes pixels without value read 0."""
        dtype = np.dtype(output)
        if dtype.kind == "f":
            return cls(dtype, 0.0 if zero else np.nan, np.inf)
        limits = np.iinfo(dtype)
        return cls(dtype, 0 if zero else int(limits.min), int(limits.max))

    def to(self, dtype: np.dtype[Any]) -> Marks:
        """The same in images of another type."""
        return Marks.of(dtype, zero=not self.no_value)

    @property
    def limits(self) -> tuple[np.float32, np.float32]:
        """Results of integer type are held within these floats before they are rounded."""
        if self.dtype == np.int32:  # the largest int32 is no float32
            return np.float32(-(2.0**31)), np.float32(2.0**31 - 128)
        return np.float32(-32768), np.float32(32767)

    @property
    def pair(self) -> NDArray[Any]:
        """No value, saturated; twice the latter where the former is no mark.

        Shapes: (2,).
        """
        return np.array([self.no_value or self.saturated, self.saturated], self.dtype)

    def told(self) -> dict[str, float]:
        """For files: both marks, and the smallest and largest value that is none, as NeXus has it.

        Pixels from ``underload_value`` to ``saturation_value`` were measured.
        """
        if self.dtype.kind == "f":
            largest = float(np.finfo(self.dtype).max)
            told = {"saturated_value": self.saturated, "saturation_value": largest}
            lowest = {"no_value": self.no_value, "underload_value": -largest}
        else:
            told = {"saturated_value": self.saturated, "saturation_value": self.saturated - 1}
            lowest = {"no_value": self.no_value, "underload_value": self.no_value + 1}
        return told | lowest if self.no_value else told


def without_value(pixels: NDArray[Any], marks: Marks) -> NDArray[np.bool_]:
    """Where pixels have no value; nowhere, if that is not marked."""
    if not marks.no_value:
        return np.zeros(pixels.shape, np.bool_)
    if marks.dtype.kind == "f":
        return np.asarray(np.isnan(pixels), np.bool_)
    return np.asarray(pixels == marks.no_value)


def measured(pixels: NDArray[Any], marks: Marks) -> NDArray[np.bool_]:
    """Where pixels have a value, and are not saturated."""
    if marks.dtype.kind == "f":
        return np.asarray(np.isfinite(pixels))
    no_value, saturated = marks.pair
    found: NDArray[np.bool_] = (pixels != saturated) & (pixels != no_value)
    return found


def mark_blocks(image: NDArray[Any], marks: Marks, rows: int, cols: int, out: NDArray[Any]) -> None:
    """Mark sums of blocks of pixels: one pixel without value, else one saturated, is enough.

    Sums of floats do so by themselves.

    Shapes: image (bands, h, w); out (bands, h // rows, w // cols), holding the sums.
    """
    if marks.dtype.kind == "f":
        return
    own = marks.to(out.dtype)
    for band in range(len(image)):
        plane, target = image[band], out[band]
        full = _any_of(plane == marks.dtype.type(marks.saturated), rows, cols)
        target[full] = own.saturated
        if marks.no_value:
            target[_any_of(without_value(plane, marks), rows, cols)] = own.no_value


def _any_of(flags: NDArray[np.bool_], rows: int, cols: int) -> NDArray[np.bool_]:
    """Whether any of each block is set; incomplete blocks at the end are dropped."""
    height, width = flags.shape[0] // rows * rows, flags.shape[1] // cols * cols
    used = flags[:height, :width]
    lines = used[::rows].copy()
    for row in range(1, rows):
        lines |= used[row::rows]
    found = lines[:, ::cols].copy()
    for col in range(1, cols):
        found |= lines[:, col::cols]
    return found
