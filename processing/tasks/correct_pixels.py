"""Subtract the background, divide by the flat field, blank the mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.memory import PoolSet
from lima2_core.flow.task import Transform
from processing.kernels.calibration import PixelCorrection
from processing.kernels.marks import Marks
from processing.tasks.buffers import OutputBuffers


class CorrectPixels(Transform):
    """Give ``(frame - background) / flatfield``, and 0 where the mask is not 0.

    Pixels that cannot be corrected are masked as well: those whose background is not finite, or
    whose flat field is 0 or not finite.

    Shapes: maps (rows, cols) or (bands, rows, cols); None leaves a step out.

    Args:
        marks: of the frames, if some of their values are no measurements; they are not corrected,
            and become those of the new type.
    """

    name = "correct_pixels"

    def __init__(
        self,
        background: NDArray[Any] | None,
        flatfield: NDArray[Any] | None,
        mask: NDArray[Any] | None,
        pools: PoolSet,
        buffers: int,
        marks: Marks | None = None,
    ) -> None:
        self._marks = marks
        self._background = background
        self._flatfield = flatfield
        self.mask = _masked(background, flatfield, mask)
        """Pixels that read 0, as bool; None if there are none. (rows, cols), or with bands."""
        self._pools = pools
        self._wanted = buffers

    def resolve(self, spec: FrameSpec) -> FrameSpec:
        self._correction = PixelCorrection(
            spec.shape,
            spec.dtype,
            background=self._background,
            flatfield=self._flatfield,
            mask=self.mask,
            marks=self._marks,
        )
        out = spec.changed(dtype=self._correction.dtype)
        self.buffers = OutputBuffers(out, self._pools, self._wanted, "corrected")
        return out

    def process(self, frame: Frame) -> Frame:
        lease, out = self.buffers.take()
        self._correction.apply(frame.data, out)
        return replace(frame, data=out, lease=lease, keepable=True)


def _masked(
    background: NDArray[Any] | None, flatfield: NDArray[Any] | None, mask: NDArray[Any] | None
) -> NDArray[np.bool_] | None:
    masks: list[NDArray[np.bool_]] = []
    if mask is not None:
        masks.append(mask != 0)
    if background is not None:
        masks.append(~np.isfinite(background))
    if flatfield is not None:
        with np.errstate(over="ignore"):
            gains = flatfield.astype(np.float32)  # as it will be divided by
        masks.append(~np.isfinite(gains) | (gains == 0))
    # A mask that was asked for stays, even if it is empty; the others where they say something.
    used = [one for n, one in enumerate(masks) if one.any() or (n == 0 and mask is not None)]
    if not used:
        return None
    merged = used[0]
    for one in used[1:]:
        merged = merged | one  # a (rows, cols) map stands for all bands
    return np.asarray(merged, np.bool_)
