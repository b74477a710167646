"""Which part of the detector an image shows: binning first, then ROI, then flip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lima2_core.camera.params import ImageParams
from lima2_core.data.geometry import Affine, Roi
from lima2_core.errors import ParamError


@dataclass(frozen=True, slots=True)
class View:
    """An image of ``roi.rows`` x ``roi.cols``; ``roi`` is in binned pixels."""

    bin_rows: int
    bin_cols: int
    roi: Roi
    flip: Literal["none", "left_right", "up_down"]

    @property
    def affine(self) -> Affine:
        """From pixels of the image to pixels of the detector."""
        affine = Affine.binning(self.bin_rows, self.bin_cols)
        affine = affine.then(Affine.crop(self.roi.row, self.roi.col))
        if self.flip == "up_down":
            affine = affine.then(Affine.flip_rows(self.roi.rows))
        elif self.flip == "left_right":
            affine = affine.then(Affine.flip_cols(self.roi.cols))
        return affine

    def strip(self, first: int, end: int) -> View:
        """The part of the image from row ``first`` to row ``end`` - 1."""
        begin = self.roi.rows - end if self.flip == "up_down" else first
        roi = replace(self.roi, row=self.roi.row + begin, rows=end - first)
        return replace(self, roi=roi)

    @property
    def detector_rows(self) -> NDArray[np.float64]:
        """The rows of the detector that each row of the image adds up.

        Shapes: (rows, bin_rows).
        """
        return _positions(self.roi.row, self.roi.rows, self.bin_rows, self.flip == "up_down")

    @property
    def detector_cols(self) -> NDArray[np.float64]:
        """The columns of the detector that each column of the image adds up.

        Shapes: (cols, bin_cols).
        """
        return _positions(self.roi.col, self.roi.cols, self.bin_cols, self.flip == "left_right")


def _positions(first: int, count: int, binning: int, backwards: bool) -> NDArray[np.float64]:
    positions = np.arange(first * binning, (first + count) * binning, dtype=np.float64)
    binned = positions.reshape(count, binning)
    return binned[::-1] if backwards else binned


def view_of(img: ImageParams, rows: int, cols: int) -> View:
    """The view that the parameters ask for, on a detector of ``rows`` x ``cols``.

    Raises:
        ParamError: it leaves the detector.
    """
    rows_binned, cols_binned = rows // img.binning.y, cols // img.binning.x
    for axis, count in (("x", cols_binned), ("y", rows_binned)):
        if count == 0:
            raise ParamError(
                f"more pixels than the {rows} x {cols} (rows x columns) of the detector",
                path=f"img.binning.{axis}",
            )
    size, corner = img.roi.dimensions, img.roi.topleft
    if (size.x, size.y) == (0, 0):
        if (corner.x, corner.y) != (0, 0):
            raise ParamError(
                "dimensions 0, 0 mean the full frame, which begins at 0, 0; give the size of the "
                "region, or no corner",
                path="img.roi.dimensions",
            )
        roi = Roi(0, 0, rows_binned, cols_binned)
    else:
        roi = Roi(corner.y, corner.x, size.y, size.x)
    if not roi.fits(rows_binned, cols_binned):
        raise ParamError(
            f"{size.y} x {size.x} pixels (rows x columns) from row {corner.y}, column {corner.x} "
            f"do not lie in the image, which has {rows_binned} x {cols_binned} after binning",
            path="img.roi.dimensions",
        )
    return View(img.binning.y, img.binning.x, roi, img.flip)
