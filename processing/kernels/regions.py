"""Statistics of rectangles and arcs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.geometry import Placement, Roi
from lima2_core.errors import ParamError
from processing.kernels.arcs import Arc, ArcPixels
from processing.kernels.marked_moments import choose_run, marked_moments
from processing.kernels.marks import Marks
from processing.kernels.moments import Moments, RunLoop, moments

ROI_RECORD = np.dtype(
    [
        ("frame_idx", "<i4"),
        ("recv_idx", "<i4"),
        ("min", "<f4"),
        ("max", "<f4"),
        ("avg", "<f4"),
        ("std", "<f4"),
        ("sum", "<f8"),
    ]
)
"""One region of one frame, or one element of a profile; 32 bytes, as it goes over the wire."""

Mask = NDArray[Any] | None
Shape = tuple[int, int, int]


def rect_statistics(image: NDArray[Any], roi: Roi, mask: Mask = None) -> Moments:
    """Statistics of the part of ``roi`` that lies in the image, without the masked pixels.

    Several bands count as one set of pixels. `RegionStatistics` does this for every frame.

    Shapes: image (bands, rows, cols), mask (rows, cols) or (bands, rows, cols).
    """
    inside = clipped(roi, image.shape[1], image.shape[2])
    cut = image[:, *inside.slices]
    if mask is not None:
        kept = kept_pixels(mask, (image.shape[0], image.shape[1], image.shape[2]))
        cut = cut[kept[:, *inside.slices]].reshape(1, 1, -1)
    with np.errstate(invalid="ignore", over="ignore"):
        return moments(cut)


def clipped(roi: Roi, rows: int, cols: int) -> Roi:
    """Give the part of ``roi`` within an image of ``rows`` x ``cols``; maybe empty."""
    row, col = min(max(roi.row, 0), rows), min(max(roi.col, 0), cols)
    end_row = min(max(roi.row + roi.rows, row), rows)
    end_col = min(max(roi.col + roi.cols, col), cols)
    return Roi(row, col, end_row - row, end_col - col)


def kept_pixels(mask: NDArray[Any], shape: Shape) -> NDArray[np.bool_]:
    """Turn a mask into the pixels that count, in all bands.

    Raises:
        ParamError: the mask has another shape than the images.
    """
    if mask.shape not in (shape[1:], shape, (1, *shape[1:])):
        raise ParamError(
            f"the mask has the shape {mask.shape}, the images have {shape}; "
            "give one of (rows, cols) or (bands, rows, cols) after binning and flip",
            path="mask",
        )
    return np.broadcast_to(np.asarray(mask) == 0, shape)


def moved(rects: Sequence[Roi], place: Placement | None) -> list[Roi]:
    """Rectangles in pixels of whole images, in those of the part at ``place``."""
    row, col = (0, 0) if place is None else (place.row, place.col)
    return [Roi(roi.row - row, roi.col - col, roi.rows, roi.cols) for roi in rects]


def write_table(table: NDArray[np.float64], records: NDArray[Any]) -> None:
    """Write all fields of `Moments` that ``records`` have; the others stay as they are.

    Shapes: table (6, n), records (n,).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        for values, name in zip(table, Moments._fields, strict=True):
            if name in (records.dtype.names or ()):
                records[name] = values


class RegionStatistics:
    """The statistics of all regions of each frame of a run: first rectangles, then arcs.

    A rectangle partly outside is cut to the image; an empty region gives zeros.

    Args:
        rects: rectangles, in image pixels.
        arcs: parts of rings.
        shape: of the images, (bands, rows, cols); all bands together make one region.
        dtype: of their pixels.
        mask: pixels that are not 0 here do not count; (rows, cols) or (bands, rows, cols).
        accelerate: whether to take the compiled version if it is ready.
        marks: values that are no measurements.
        place: where the images lie in whole ones, if they are parts; regions are then in pixels of
            these.

    Raises:
        ParamError: the mask has another shape than the images, or an arc is none.

    Threads: `fill` on any number of threads at a time.
    """

    def __init__(
        self,
        rects: Sequence[Roi],
        arcs: Sequence[Arc],
        shape: Shape,
        dtype: np.dtype[Any],
        mask: Mask = None,
        *,
        accelerate: bool = True,
        marks: Marks | None = None,
        place: Placement | None = None,
    ) -> None:
        _, rows, cols = shape
        kept = None if mask is None else kept_pixels(mask, shape)
        inside = [clipped(roi, rows, cols) for roi in moved(rects, place)]
        origin = (0, 0) if place is None else (place.row, place.col)
        loop = choose_run(dtype, marks) if accelerate else None
        self.length = len(rects) + len(arcs)
        """Records per frame."""
        self._source: _ByRuns | _ByRegion
        planes = [
            ArcPixels.of(
                arc.center_x,
                arc.center_y,
                arc.r1,
                arc.r2,
                arc.a1_deg,
                arc.a2_deg,
                rows,
                cols,
                origin,
            ).indices
            for arc in arcs
        ]
        if loop is not None:
            planes = [_plane_indices(roi, cols) for roi in inside] + planes
            found = [_in_bands(plane, shape, kept) for plane in planes]
            sizes = [len(indices) for indices in found]
            self._source = _ByRuns(found, loop)
        else:
            regions: list[Roi | NDArray[np.intp]] = []
            for roi in inside:
                if kept is None or kept[:, *roi.slices].all():
                    regions.append(roi)
                else:
                    regions.append(_in_bands(_plane_indices(roi, cols), shape, kept))
            regions.extend(_in_bands(plane, shape, kept) for plane in planes)
            sizes = [
                shape[0] * one.rows * one.cols if isinstance(one, Roi) else len(one)
                for one in regions
            ]
            self._source = _ByRegion(regions, marks)
        self.sizes = np.array(sizes, np.intp)
        """Pixels of each region that are there, and not masked."""

    def fill(self, image: NDArray[Any], records: NDArray[Any]) -> None:
        """Write min, max, avg, std and sum of every region, and their pixels if records tell them.

        Shapes: image (bands, rows, cols); records (`length`,) of `ROI_RECORD`, or of
        `lima2_core.data.pooling.PART_RECORD`.
        """
        if self.length:
            table = np.empty((6, self.length))
            self._source.fill(np.ascontiguousarray(image), table)
            write_table(table, records)


class _ByRegion:
    """By numpy: a rectangle is a view, any other region a list of flat indices."""

    def __init__(self, regions: list[Roi | NDArray[np.intp]], marks: Marks | None) -> None:
        self._marks = marks
        self._regions = [
            (slice(None), *region.slices) if isinstance(region, Roi) else region
            for region in regions
        ]

    def fill(self, image: NDArray[Any], table: NDArray[np.float64]) -> None:
        flat = image.reshape(-1)
        with np.errstate(invalid="ignore", over="ignore"):
            for k, region in enumerate(self._regions):
                cut = image[region] if isinstance(region, tuple) else flat.take(region)[None, None]
                table[:, k] = marked_moments(cut, self._marks)


class _ByRuns:
    """Compiled: all regions in one call, each as runs of neighbouring pixels."""

    def __init__(self, regions: list[NDArray[np.intp]], loop: RunLoop) -> None:
        runs = [_runs(indices) for indices in regions]
        self._starts = np.concatenate([np.zeros(0, np.intp), *(starts for starts, _ in runs)])
        self._stops = np.concatenate([np.zeros(0, np.intp), *(stops for _, stops in runs)])
        self._firsts = np.cumsum([0, *(len(starts) for starts, _ in runs)], dtype=np.intp)
        self._loop = loop

    def fill(self, image: NDArray[Any], table: NDArray[np.float64]) -> None:
        self._loop(image.reshape(-1), self._starts, self._stops, self._firsts, table)


def _plane_indices(roi: Roi, cols: int) -> NDArray[np.intp]:
    """Positions of the pixels of ``roi`` in a flat plane of ``cols`` columns."""
    row = np.arange(roi.row, roi.row + roi.rows)[:, np.newaxis]
    col = np.arange(roi.col, roi.col + roi.cols)
    return (row * cols + col).reshape(-1)


def _in_bands(
    plane: NDArray[np.intp], shape: Shape, kept: NDArray[np.bool_] | None
) -> NDArray[np.intp]:
    """Positions in a flat image of all bands, without those that do not count."""
    bands, rows, cols = shape
    indices = (np.arange(bands)[:, np.newaxis] * (rows * cols) + plane).reshape(-1)
    return indices if kept is None else indices[kept.reshape(-1)[indices]]


def _runs(indices: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last + 1 position of each stretch of neighbours in ascending ``indices``."""
    if len(indices) == 0:
        return indices, indices
    breaks = np.flatnonzero(np.diff(indices) != 1)
    starts = indices[np.concatenate([[0], breaks + 1])]
    return starts, indices[np.concatenate([breaks, [len(indices) - 1]])] + 1
