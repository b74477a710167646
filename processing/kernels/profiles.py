"""Statistics of each column or each row of rectangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.geometry import Placement, Roi
from processing.kernels.marked_moments import choose_column, choose_run, marked_line_moments
from processing.kernels.marks import Marks
from processing.kernels.moments import ColumnLoop, RunLoop
from processing.kernels.regions import Mask, Shape, clipped, kept_pixels, moved, write_table

Direction = Literal["horizontal", "vertical"]
"""Horizontal: an element per column; vertical: an element per row."""


@dataclass(frozen=True, slots=True, eq=False)
class _Profile:
    """One profile: its part inside the image, and where its elements go."""

    inside: Roi
    direction: Direction
    target: slice
    """Of the table: the elements that have pixels."""
    kept: NDArray[np.bool_] | None
    """(bands, inside.rows, inside.cols), contiguous; None if all pixels count."""
    count: NDArray[np.intp]
    """Pixels of each element."""


class RegionProfiles:
    """The profiles of each frame of a run, one after the other.

    A rectangle partly outside keeps its length; elements without pixels are zeros.

    Args:
        rois: rectangles, in image pixels.
        directions: one for each of them.
        shape: of the images, (bands, rows, cols); an element covers all bands.
        dtype: of their pixels.
        mask: pixels that are not 0 here do not count; (rows, cols) or (bands, rows, cols).
        accelerate: whether to take the compiled version if it is ready.
        marks: values that are no measurements.
        place: where the images lie in whole ones, if they are parts; rectangles are then in pixels
            of these, and profiles as long as those of whole images.

    Raises:
        ParamError: the mask has another shape than the images.

    Threads: `fill` on any number of threads at a time.
    """

    def __init__(
        self,
        rois: Sequence[Roi],
        directions: Sequence[Direction],
        shape: Shape,
        dtype: np.dtype[Any],
        mask: Mask = None,
        *,
        accelerate: bool = True,
        marks: Marks | None = None,
        place: Placement | None = None,
    ) -> None:
        kept = None if mask is None else kept_pixels(mask, shape)
        self._fills: list[_NumpyFill | _ColumnFill | _RowFill] = []
        columns = choose_column(dtype, marks) if accelerate else None
        rows = choose_run(dtype, marks) if accelerate else None
        self.length = 0
        """Records per frame."""
        profiles: list[_Profile] = []
        for roi, direction in zip(moved(rois, place), directions, strict=True):
            profile = _resolved(roi, direction, self.length, shape, kept)
            self.length += roi.cols if direction == "horizontal" else roi.rows
            profiles.append(profile)
            if profile.inside.rows == 0 or profile.inside.cols == 0:
                continue
            if direction == "horizontal" and columns is not None:
                self._fills.append(_ColumnFill(profile, columns))
            elif direction == "vertical" and rows is not None:
                self._fills.append(_RowFill(profile, shape, rows))
            else:
                self._fills.append(_NumpyFill(profile, marks))
        self.sizes = np.zeros(self.length, np.intp)
        """Pixels of each element that are there, and not masked."""
        for profile in profiles:
            self.sizes[profile.target] = profile.count

    def fill(self, image: NDArray[Any], records: NDArray[Any]) -> None:
        """Write the statistics of every element of every profile, as `RegionStatistics` does.

        Shapes: image (bands, rows, cols); records (`length`,).
        """
        image = np.ascontiguousarray(image)
        table = np.zeros((6, self.length))
        for one in self._fills:
            one.fill(image, table)
        write_table(table, records)


def _resolved(
    roi: Roi, direction: Direction, start: int, shape: Shape, kept: NDArray[np.bool_] | None
) -> _Profile:
    inside = clipped(roi, shape[1], shape[2])
    if direction == "horizontal":
        first, entries, axis = start + inside.col - roi.col, inside.cols, 1
    else:
        first, entries, axis = start + inside.row - roi.row, inside.rows, 2
    if kept is None or kept[:, *inside.slices].all():
        own = None
        each = shape[0] * (inside.rows if axis == 1 else inside.cols)
        count = np.full(entries, each, np.intp)
    else:
        own = np.ascontiguousarray(kept[:, *inside.slices])
        count = own.sum(axis=(0, axis), dtype=np.intp)
    return _Profile(inside, direction, slice(first, first + entries), own, count)


class _NumpyFill:
    """Either direction, by numpy."""

    def __init__(self, profile: _Profile, marks: Marks | None) -> None:
        self._profile = profile
        self._marks = marks
        self._axis = 1 if profile.direction == "horizontal" else 2

    def fill(self, image: NDArray[Any], table: NDArray[np.float64]) -> None:
        profile = self._profile
        with np.errstate(invalid="ignore", over="ignore"):
            marked_line_moments(
                image[:, *profile.inside.slices],
                profile.kept,
                profile.count,
                self._axis,
                table[:, profile.target],
                self._marks,
            )


class _ColumnFill:
    """Horizontal, compiled."""

    def __init__(self, profile: _Profile, loop: ColumnLoop) -> None:
        inside = profile.inside
        self._corner = np.array([inside.row, inside.col], np.intp)
        self._size = np.array([inside.rows, inside.cols], np.intp)
        self._kept = np.zeros((0, 0, 0), np.bool_) if profile.kept is None else profile.kept
        self._target = profile.target
        self._loop = loop

    def fill(self, image: NDArray[Any], table: NDArray[np.float64]) -> None:
        part = np.empty((6, self._size[1]))
        self._loop(image, self._kept, self._corner, self._size, part)
        table[:, self._target] = part


class _RowFill:
    """Vertical, compiled: each row is a region made of runs, in every band."""

    def __init__(self, profile: _Profile, shape: Shape, loop: RunLoop) -> None:
        self._target = profile.target
        self._loop = loop
        bands, rows, cols = shape
        inside = profile.inside
        starts: list[NDArray[np.intp]] = []
        stops: list[NDArray[np.intp]] = []
        firsts = [0]
        for row in range(inside.rows):
            for band in range(bands):
                origin = (band * rows + inside.row + row) * cols + inside.col
                if profile.kept is None:
                    edges = np.array([0, inside.cols])
                else:
                    line = np.pad(profile.kept[band, row].astype(np.int8), 1)
                    edges = np.flatnonzero(np.diff(line))
                starts.append(edges[::2] + origin)
                stops.append(edges[1::2] + origin)
            firsts.append(firsts[-1] + sum(len(s) for s in starts[-bands:]))
        self._starts = np.concatenate(starts)
        self._stops = np.concatenate(stops)
        self._firsts = np.array(firsts, np.intp)

    def fill(self, image: NDArray[Any], table: NDArray[np.float64]) -> None:
        part = np.empty((6, len(self._firsts) - 1))
        self._loop(image.reshape(-1), self._starts, self._stops, self._firsts, part)
        table[:, self._target] = part
