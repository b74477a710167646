"""Where pixels are: sizes, regions, and the affine way back from an image to its detector."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_MARGIN = 1e-6
"""Pixels; far below what is visible, far above the rounding of a few multiplied matrices."""


@dataclass(frozen=True, slots=True)
class Roi:
    """A rectangle of pixels: ``rows`` x ``cols`` from (``row``, ``col``)."""

    row: int
    col: int
    rows: int
    cols: int

    def fits(self, rows: int, cols: int) -> bool:
        """Whether it is not empty and lies within an image of ``rows`` x ``cols``."""
        return (
            self.row >= 0
            and self.col >= 0
            and self.rows > 0
            and self.cols > 0
            and self.row + self.rows <= rows
            and self.col + self.cols <= cols
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the region in a (rows, cols) array."""
        return (
            slice(self.row, self.row + self.rows),
            slice(self.col, self.col + self.cols),
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a part lies in a whole image: its first pixel, and the size of the whole."""

    row: int
    col: int
    rows: int
    """Of the whole image."""
    cols: int


def _identity() -> NDArray[np.float64]:
    return np.eye(3)


@dataclass(frozen=True, eq=False, slots=True)
class Affine:
    """Maps image positions to detector positions: ``(row, col, 1) -> matrix @ (row, col, 1)``.

    Positions are in pixels; the centre of the first pixel is (0, 0), so a pixel covers
    -0.5 to +0.5. Every geometric operation multiplies its own matrix from the right
    (requirement G7), whatever came before it.

    Shapes: ``matrix`` (3, 3) float64, last row (0, 0, 1).
    """

    matrix: NDArray[np.float64] = field(default_factory=_identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and bool(np.allclose(self.matrix, other.matrix))

    __hash__ = None  # type: ignore[assignment]

    def then(self, step: Affine) -> Affine:
        """Map an image made from this one, where ``step`` maps new to old positions."""
        return Affine(self.matrix @ step.matrix)

    def inverse(self) -> Affine:
        """Give the map from detector positions to image positions."""
        return Affine(np.asarray(np.linalg.inv(self.matrix), np.float64))

    def apply(self, row: float, col: float) -> tuple[float, float]:
        """Detector position of an image position."""
        mapped = self.matrix @ np.array([row, col, 1.0])
        return float(mapped[0]), float(mapped[1])

    def region(self, roi: Roi) -> Roi:
        """Detector pixels covered by an image region, as the smallest rectangle around them."""
        edges = [
            self.apply(row, col)
            for row in (roi.row - 0.5, roi.row + roi.rows - 0.5)
            for col in (roi.col - 0.5, roi.col + roi.cols - 0.5)
        ]
        low_row, low_col = (min(edge[axis] for edge in edges) for axis in (0, 1))
        high_row, high_col = (max(edge[axis] for edge in edges) for axis in (0, 1))
        # Outwards, so that a part of a pixel counts; the margin absorbs what rounding left over.
        row, col = math.floor(low_row + 0.5 + _MARGIN), math.floor(low_col + 0.5 + _MARGIN)
        end_row, end_col = math.ceil(high_row + 0.5 - _MARGIN), math.ceil(high_col + 0.5 - _MARGIN)
        return Roi(row, col, end_row - row, end_col - col)

    @classmethod
    def binning(cls, rows: int, cols: int) -> Affine:
        """Put a new pixel at the mean position of ``rows`` x ``cols`` old ones."""
        return cls(np.array([[rows, 0, (rows - 1) / 2], [0, cols, (cols - 1) / 2], [0, 0, 1.0]]))

    @classmethod
    def crop(cls, row: int, col: int) -> Affine:
        """Make the old pixel (``row``, ``col``) the new first one."""
        return cls(np.array([[1, 0, row], [0, 1, col], [0, 0, 1.0]]))

    @classmethod
    def flip_rows(cls, rows: int) -> Affine:
        """Upside down, in an image of ``rows``."""
        return cls(np.array([[-1, 0, rows - 1], [0, 1, 0], [0, 0, 1.0]]))

    @classmethod
    def flip_cols(cls, cols: int) -> Affine:
        """Left to right, in an image of ``cols``."""
        return cls(np.array([[1, 0, 0], [0, -1, cols - 1], [0, 0, 1.0]]))

    @classmethod
    def rotation(cls, quarter_turns: int, rows: int, cols: int) -> Affine:
        """Counter-clockwise as in `numpy.rot90`, of an image of old size ``rows`` x ``cols``."""
        turned = cls()
        for _ in range(quarter_turns % 4):
            # new(r, c) = old(c, cols - 1 - r)
            step = cls(np.array([[0, 1, 0], [-1, 0, cols - 1], [0, 0, 1.0]]))
            turned = turned.then(step)
            rows, cols = cols, rows
        return turned
