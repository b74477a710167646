"""Sparse frames: the pixels of an image that hold something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Validity
from lima2_core.data.geometry import Placement
from processing.kernels.hits import INDEX, find_hits


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """The hits of one frame, as they stand in the file.

    Shapes: both arrays (hits,), in the order of ``index``.
    """

    index: NDArray[np.int32]
    """Positions in the whole image: row * columns + column."""
    intensity: NDArray[Any]
    """Values of these pixels, of the type of the image."""
    validity: Validity = Validity.VALID
    timestamp_s: float = 0.0
    """Start of the exposure, seconds since 1970; 0 if unknown."""
    fields: np.void | None = None
    """What the camera tells of the frame; None if it tells nothing."""

    def __len__(self) -> int:
        return len(self.index)

    def hits(self) -> Hits:
        """Itself."""
        return self


@dataclass(frozen=True, slots=True)
class Part:
    """Where an image of ``cols`` lies in the whole one, for positions counted row by row."""

    cols: int
    row: int = 0
    col: int = 0
    whole_cols: int = 0
    """0: the image is the whole."""

    @classmethod
    def of(cls, cols: int, place: Placement | None) -> Part:
        """An image that is at ``place``; None: it is the whole."""
        return cls(cols) if place is None else cls(cols, place.row, place.col, place.cols)

    def in_whole(self, index: NDArray[np.int32]) -> NDArray[np.int32]:
        """Positions in the whole image, of positions in this one."""
        if not self.whole_cols:
            return index
        if self.cols == self.whole_cols:
            return index + INDEX.type(self.row * self.whole_cols)
        row, col = np.divmod(index, INDEX.type(self.cols))
        row += INDEX.type(self.row)
        row *= INDEX.type(self.whole_cols)
        row += col
        row += INDEX.type(self.col)
        return row


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """A frame with so many hits that the image takes less memory than they.

    Shapes: pixels (n,), least (1,): hits are the pixels from there on.
    """

    pixels: NDArray[Any]
    least: NDArray[Any]
    part: Part
    validity: Validity = Validity.VALID
    timestamp_s: float = 0.0
    fields: np.void | None = None

    def hits(self) -> Hits:
        """All of them; takes some milliseconds, and several times the memory."""
        found = find_hits(self.pixels, self.least, self.pixels.size)
        if found is None:
            raise ValueError("an image has no more hits than pixels")
        index, intensity = found
        index = self.part.in_whole(index)
        return Hits(index, intensity, self.validity, self.timestamp_s, self.fields)
