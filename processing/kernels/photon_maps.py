"""Six maps per pixel, made ready for the conversion of raw words to photons.

Of each gain stage two maps are needed: an offset, which is subtracted, and a factor, which is
multiplied. What has no value is written into the maps, so that the loops need no mask:

====================  ==========================  ====================
in a stage            float maps                  16-bit maps
====================  ==========================  ====================
value                 (ADC - offset) * factor     (4 ADC - offset) * (factor * scale[stage])
no value, "mark"      offset NaN (float32) or     factor 0
                      huge (integers)
no value, "zero"      factor 0                    factor 0
====================  ==========================  ====================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.kernels.marks import Marks

STAGES = 3
QUARTERS = 4
"""Steps of a 16-bit offset in one ADU."""
_TOP = 65535
_SPREAD = 4
"""A 16-bit factor may be so many times the median of its stage; it is set to no value beyond, as
a few wild pixels would take the resolution from all others."""
_HUGE = 1e30


@dataclass(frozen=True, slots=True, eq=False)
class PhotonMaps:
    """The maps of all modules of a frame.

    Shapes: ``offset``, ``factor`` (3, pixels), float32 or uint16; ``scale`` (3,) float32, of
    16-bit maps; ``valid`` (3, pixels) bool: where a stage has a value.
    """

    marks: Marks
    offset: NDArray[Any]
    factor: NDArray[Any]
    scale: NDArray[np.float32]
    valid: NDArray[np.bool_]

    @property
    def narrow(self) -> bool:
        """Whether these are 16-bit maps."""
        return self.offset.dtype == np.uint16

    @property
    def pixels(self) -> int:
        return int(self.offset.shape[1])

    def hidden(self) -> NDArray[np.bool_]:
        """Pixels that have no value in G0, where nearly all readings are.

        Shapes: (pixels,).
        """
        return np.asarray(~self.valid[0])

    def following(self, pedestal_g0: NDArray[np.float32]) -> PhotonMaps:
        """The same with another G0 pedestal.

        Shapes: (pixels,).
        """
        offset = self.offset.copy()
        offset[0] = _offsets(pedestal_g0, self.valid[0], self.marks, narrow=self.narrow)
        return PhotonMaps(self.marks, offset, self.factor, self.scale, self.valid)


def photon_maps(
    pedestal: NDArray[Any],
    gain: NDArray[Any],
    mask: NDArray[Any] | None,
    marks: Marks,
    *,
    narrow: bool = False,
) -> PhotonMaps:
    """Get the maps ready; where pedestal or gain of a stage are not usable, it has no value.

    Shapes: maps (3, pixels); the mask also (pixels,).

    Args:
        pedestal: in ADU.
        gain: in ADU per photon.
        mask: not 0 = without value; None for no mask.
        marks: of the output.
        narrow: make 16-bit maps.
    """
    pedestal = np.asarray(pedestal, np.float32)
    valid = np.isfinite(pedestal) & np.isfinite(gain) & (np.asarray(gain) != 0)
    if mask is not None:
        valid &= np.asarray(mask) == 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.where(valid, 1.0 / np.asarray(gain, np.float64), 0.0).astype(np.float32)
    scale = np.ones(STAGES, np.float32)
    if not narrow:
        factor = inverse
        offset = _offsets(pedestal, valid, marks, narrow=False)
        if marks.no_value:
            factor = np.where(valid, inverse, np.float32(1))
        return PhotonMaps(marks, offset, np.ascontiguousarray(factor), scale, valid)
    narrowed = np.zeros(inverse.shape, np.uint16)
    for stage in range(STAGES):
        narrowed[stage], scale[stage] = _narrowed(inverse[stage], valid[stage])
    offset = _offsets(pedestal, valid, marks, narrow=True)
    return PhotonMaps(marks, offset, narrowed, scale, valid & (narrowed != 0))


def _offsets(
    pedestal: NDArray[Any], valid: NDArray[np.bool_], marks: Marks, *, narrow: bool
) -> NDArray[Any]:
    if narrow:
        quarters = np.rint(np.where(valid, pedestal, 0) * np.float32(QUARTERS))
        return np.ascontiguousarray(np.clip(quarters, 0, _TOP).astype(np.uint16))
    without = 0.0
    if marks.no_value:
        without = np.nan if marks.dtype.kind == "f" else _HUGE
    return np.ascontiguousarray(np.where(valid, pedestal, np.float32(without)), np.float32)


def _narrowed(
    inverse: NDArray[np.float32], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.uint16], float]:
    """Factors of a stage as integers, and what one of their steps is worth for a quarter ADU."""
    if not valid.any():
        return np.zeros(inverse.shape, np.uint16), 1.0
    middle = float(np.median(inverse[valid]))
    usable = valid & (inverse / middle > 0) & (inverse / middle <= _SPREAD)
    step = float(np.abs(inverse[usable]).max()) / _TOP * np.sign(middle)
    factor = np.where(usable, np.rint(inverse / step), 0)
    return factor.astype(np.uint16), step / QUARTERS
