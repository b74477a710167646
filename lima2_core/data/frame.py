"""Frames, and the absence of frames."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.geometry import Affine
from lima2_core.ids import FrameIdx

PIXEL_TYPES: dict[str, np.dtype[Any]] = {
    "gray8": np.dtype(np.uint8),
    "gray8s": np.dtype(np.int8),
    "gray16": np.dtype(np.uint16),
    "gray16s": np.dtype(np.int16),
    "gray32": np.dtype(np.uint32),
    "gray32s": np.dtype(np.int32),
    "gray32f": np.dtype(np.float32),
    "gray64f": np.dtype(np.float64),
}
"""Pixel types by the names of the wire."""


def pixel_type_of(dtype: np.dtype[Any]) -> str:
    """Name of ``dtype`` on the wire.

    Raises:
        ValueError: it has none.
    """
    for name, known in PIXEL_TYPES.items():
        if known == dtype:
            return name
    raise ValueError(f"pixels of type {dtype} have no name; choose one of {', '.join(PIXEL_TYPES)}")


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """What every frame of a run looks like at one place of the flow; known before the first.

    Shapes: ``shape`` is (bands, rows, cols). ``affine`` leads to detector pixels.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    unit: str = "ADU"
    affine: Affine = field(default_factory=Affine)

    @property
    def nbytes(self) -> int:
        """Bytes of one frame."""
        return math.prod(self.shape) * self.dtype.itemsize

    def changed(
        self,
        *,
        shape: tuple[int, int, int] | None = None,
        dtype: np.dtype[Any] | None = None,
        unit: str | None = None,
        step: Affine | None = None,
    ) -> FrameSpec:
        """The spec after an operation; ``step`` maps new positions to old ones."""
        return replace(
            self,
            shape=self.shape if shape is None else shape,
            dtype=self.dtype if dtype is None else dtype,
            unit=self.unit if unit is None else unit,
            affine=self.affine if step is None else self.affine.then(step),
        )


class Validity(enum.IntEnum):
    """The class in which a frame index ends, with its code in the files (uint8)."""

    VALID = 0
    PARTIAL = 1
    """Made of fewer packets, modules or summed frames than asked."""
    DROPPED = 2
    """The detector says it did not deliver the frame."""
    PACKET_LOSS = 3
    OVERRUN = 4
    """No buffer was free when the frame came."""
    PROCESSING_FAULT = 5
    VETO = 6
    """It was not to be kept; in files also: not among those to be saved (``sampling``)."""
    RECEIVER_LOST = 7
    """The receiver was gone, or had given up."""
    CRASH = 8
    """Lost with a crash before it was flushed."""
    NEVER_SENT = 9
    """The acquisition ended before the frame was exposed."""


PRESENT = (Validity.VALID, Validity.PARTIAL)
"""Frames of which there are pixels."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A frame that is not there, and why; it takes the place of the frame in every order."""

    idx: FrameIdx
    cause: Validity
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image and what is known about it.

    The pixels must not be changed once the frame has been handed on: several consumers look at
    them at the same time. They stay in memory as long as something refers to ``lease`` (or to
    the frame): there is no release to forget.

    Shapes: ``data`` (bands, rows, cols).
    """

    idx: FrameIdx
    data: NDArray[Any]
    lease: object = None
    """Keeps the memory of ``data``; None if ``data`` owns it."""
    keepable: bool = False
    """Whether it may be held for long without starving its source; else a copy is kept."""
    timestamp_s: float = 0.0
    """Start of the exposure, seconds since 1970; 0 if unknown."""
    validity: Validity = Validity.VALID
    """VALID or PARTIAL."""
    fields: np.void | None = None
    """What the camera tells of this frame: a record of the type of its ``frame_fields``, None if
    it has none. It does not lie in memory that goes back with ``lease``."""
