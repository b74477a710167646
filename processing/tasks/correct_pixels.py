"""Subtract the background, divide by the flat field, blank the mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.memory import PoolSet
from lima2_core.flow.task import Transform
from processing.kernels.calibration import PixelCorrection
from processing.tasks.buffers import OutputBuffers


class CorrectPixels(Transform):
    """Give ``(frame - background) / flatfield``, and 0 where the mask is not 0.

    Shapes: maps (rows, cols) or (bands, rows, cols); None leaves a step out.
    """

    name = "correct_pixels"

    def __init__(
        self,
        background: NDArray[Any] | None,
        flatfield: NDArray[Any] | None,
        mask: NDArray[Any] | None,
        pools: PoolSet,
        buffers: int,
    ) -> None:
        self._background = background
        self._flatfield = flatfield
        self._mask = mask
        self._pools = pools
        self._wanted = buffers

    def resolve(self, spec: FrameSpec) -> FrameSpec:
        self._correction = PixelCorrection(
            spec.shape,
            spec.dtype,
            background=self._background,
            flatfield=self._flatfield,
            mask=self._mask,
        )
        out = spec.changed(dtype=self._correction.dtype)
        self._buffers = OutputBuffers(out, self._pools, self._wanted, "corrected")
        return out

    def process(self, frame: Frame) -> Frame:
        lease, out = self._buffers.take()
        self._correction.apply(frame.data, out)
        return replace(frame, data=out, lease=lease, keepable=True)
