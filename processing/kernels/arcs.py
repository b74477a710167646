"""Sectors of rings, and the pixels in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import ParamError

_MARGIN_DEG = 1e-9
"""Keeps a pixel that lies exactly on an edge, whatever rounding does to its angle."""


@dataclass(frozen=True, slots=True)
class Arc:
    """The part of a ring between two radii and two angles.

    The point at angle a and radius r is (center_x + r cos a, center_y + r sin a); x is the
    column, y the row, which grows downwards. Radii in pixels.
    """

    center_x: float
    center_y: float
    r1: float
    r2: float
    """The inner radius belongs to the arc, the outer one does not."""
    a1_deg: float
    a2_deg: float
    """Not below ``a1_deg``; both may be negative or exceed 360. From 360 apart: the full ring."""


@dataclass(frozen=True, slots=True, eq=False)
class ArcPixels:
    """The pixels whose centre lies in an arc.

    Shapes: ``indices`` (n,) ascending positions in a flat (rows, cols) plane.
    """

    indices: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        center_x: float,
        center_y: float,
        r1: float,
        r2: float,
        a1_deg: float,
        a2_deg: float,
        rows: int,
        cols: int,
        origin: tuple[int, int] = (0, 0),
    ) -> ArcPixels:
        """Find the pixels of an `Arc` in an image of ``rows`` x ``cols``.

        The centre is given from the pixel that lies ``origin`` (row, col) before the first one.

        Raises:
            ParamError: the angles or the radii are in the wrong order.
        """
        if not a1_deg <= a2_deg:
            raise ParamError(f"{a2_deg} is below a1, {a1_deg}; add 360 to it", path="a2")
        if not 0 <= r1 <= r2:
            raise ParamError(f"the radii must be 0 <= r1 <= r2, not {r1} and {r2}", path="r2")
        # Only the square around the ring is looked at.
        top, bottom = _span(center_y, r2, origin[0], rows)
        left, right = _span(center_x, r2, origin[1], cols)
        down = np.arange(top, bottom)[:, np.newaxis] - center_y
        across = np.arange(left, right)[np.newaxis, :] - center_x
        distance2 = down * down + across * across
        inside = (distance2 >= r1 * r1) & (distance2 < r2 * r2)
        if a2_deg - a1_deg < 360.0:
            angle_deg = np.degrees(np.arctan2(down, across))
            beyond_deg = (angle_deg - a1_deg + _MARGIN_DEG) % 360.0
            # The centre itself lies at every angle.
            inside &= (beyond_deg <= a2_deg - a1_deg + 2 * _MARGIN_DEG) | (distance2 == 0)
        row, col = np.nonzero(inside)
        return cls((row + (top - origin[0])) * cols + col + (left - origin[1]))


def _span(center: float, radius: float, start: int, size: int) -> tuple[int, int]:
    """First and last + 1 position within ``radius`` of ``center``, cut to ``size`` from ``start``.

    Positions are not moved, so that a part of an image finds the very pixels of the whole.
    """
    first = min(max(math.ceil(center - radius), start), start + size)
    return first, min(max(math.floor(center + radius) + 1, first), start + size)
