"""Binning, region, flip and rotation, in one pass over the pixels that are left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.geometry import Affine, Roi
from lima2_core.data.memory import PoolSet
from lima2_core.errors import ParamError
from lima2_core.flow.task import Transform
from processing.kernels.binning import bin_sum, binned_dtype
from processing.kernels.geometry import flip, rotate
from processing.kernels.marks import Marks, mark_blocks
from processing.params import GeometryParams
from processing.tasks.buffers import OutputBuffers


class ReshapeImage(Transform):
    """Bin, then cut a region of the binned image, then flip, then rotate.

    The matrix of the frames keeps the way back to the detector (G7).

    Args:
        marks: of the frames, if some of their values are no measurements: a binned pixel has no
            value if one that it was made of has none, else it is saturated if one of them is.
    """

    name = "reshape_image"

    def __init__(
        self, params: GeometryParams, pools: PoolSet, buffers: int, marks: Marks | None = None
    ) -> None:
        self._marks = marks
        self._params = params
        self._pools = pools
        self._wanted = buffers

    def resolve(self, spec: FrameSpec) -> FrameSpec:
        params = self._params
        bands, rows, cols = spec.shape
        down, along = params.binning.y, params.binning.x
        if down > rows or along > cols:
            raise ParamError(
                f"blocks of {along} x {down} (x, y) do not fit into an image of {cols} x {rows}",
                path="geometry.binning",
            )
        rows, cols = rows // down, cols // along
        self._roi = _region(params, rows, cols)
        step = Affine.binning(down, along).then(Affine.crop(self._roi.row, self._roi.col))
        rows, cols = self._roi.rows, self._roi.cols
        if params.flip == "left_right":
            step = step.then(Affine.flip_cols(cols))
        elif params.flip == "up_down":
            step = step.then(Affine.flip_rows(rows))
        step = step.then(Affine.rotation(params.quarter_turns, rows, cols))
        if params.quarter_turns % 2:
            rows, cols = cols, rows
        out = spec.changed(
            shape=(bands, rows, cols), dtype=binned_dtype(spec.dtype, down, along), step=step
        )
        self.buffers = OutputBuffers(out, self._pools, self._wanted, "reshaped")
        return out

    def process(self, frame: Frame) -> Frame:
        lease, out = self.buffers.take()
        self._reshape(frame.data, out)
        return replace(frame, data=out, lease=lease, keepable=True)

    def mask(self, mask: NDArray[Any]) -> NDArray[Any]:
        """The mask for the new images: a pixel is masked if any it was made of is.

        Shapes: ``mask`` (rows, cols) or (bands, rows, cols) -> the same of the new image.
        """
        planes = (mask != 0).reshape(-1, *mask.shape[-2:]).astype(np.uint8)
        down, along = self._params.binning.y, self._params.binning.x
        binned = bin_sum(planes, down, along)
        moved = rotate(
            flip(binned[:, *self._roi.slices], self._params.flip), self._params.quarter_turns
        )
        return moved if mask.ndim == 3 else moved[0]

    def _reshape(self, image: NDArray[Any], out: NDArray[Any]) -> None:
        params, roi = self._params, self._roi
        down, along = params.binning.y, params.binning.x
        cut = image[
            :,
            roi.row * down : (roi.row + roi.rows) * down,
            roi.col * along : (roi.col + roi.cols) * along,
        ]
        moves = params.flip != "none" or params.quarter_turns
        if down * along > 1:
            whole = cut
            cut = bin_sum(whole, down, along, out=None if moves else out)
            if self._marks is not None:
                mark_blocks(whole, self._marks, down, along, cut)
            if not moves:
                return
        if params.flip == "left_right":
            cut = cut[:, :, ::-1]
        elif params.flip == "up_down":
            cut = cut[:, ::-1]
        rotate(cut, params.quarter_turns, out=out)


def _region(params: GeometryParams, rows: int, cols: int) -> Roi:
    topleft, size = params.roi.topleft, params.roi.dimensions
    if (size.x, size.y) == (0, 0) and (topleft.x, topleft.y) == (0, 0):
        return Roi(0, 0, rows, cols)
    roi = Roi(topleft.y, topleft.x, size.y, size.x)
    if roi.rows == 0 or roi.cols == 0:
        raise ParamError(
            f"a region of {roi.cols} x {roi.rows} (x, y) is empty; give it a width and a height, "
            "or topleft 0, 0 and dimensions 0, 0 for the whole image",
            path="geometry.roi.dimensions",
        )
    if not roi.fits(rows, cols):
        raise ParamError(
            f"x={roi.col}, y={roi.row}, {roi.cols} x {roi.rows} does not lie within the binned "
            f"image of {cols} x {rows} (x, y)",
            path="geometry.roi",
        )
    return roi
