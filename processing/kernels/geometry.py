"""Flips, rotations and crops; each gives a contiguous image of its own."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.geometry import Roi
from lima2_core.errors import ParamError

Flip = Literal["none", "left_right", "up_down"]

_TILE = 64
"""Rows and columns copied at once when they change places: both sides stay in the cache."""


def flip(image: NDArray[Any], how: Flip, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Mirror ``image``: left to right, upside down, or not at all (a copy).

    Shapes: image, out (bands, rows, cols).
    """
    if how == "left_right":
        image = image[:, :, ::-1]
    elif how == "up_down":
        image = image[:, ::-1]
    return _copied(image, out)


def rotate(
    image: NDArray[Any], quarter_turns: int, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Turn ``image`` counter-clockwise, as `numpy.rot90` does.

    Shapes: image (bands, rows, cols); out the same, or (bands, cols, rows) after an odd turn.
    """
    turned = np.rot90(image, quarter_turns, axes=(1, 2))
    if quarter_turns % 2 == 0:
        return _copied(turned, out)
    if out is None:
        out = np.empty(turned.shape, turned.dtype)
    _, rows, cols = turned.shape
    for row in range(0, rows, _TILE):
        for col in range(0, cols, _TILE):
            tile = np.s_[:, row : row + _TILE, col : col + _TILE]
            np.copyto(out[tile], turned[tile])
    return out


def crop(image: NDArray[Any], roi: Roi, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Cut ``roi`` out of ``image``.

    Shapes: image (bands, rows, cols); out (bands, roi.rows, roi.cols).

    Raises:
        ParamError: the region is empty or leaves the image.
    """
    _, rows, cols = image.shape
    if not roi.fits(rows, cols):
        raise ParamError(
            f"{roi} is empty or leaves the image of {rows}x{cols}; choose one inside", path="roi"
        )
    return _copied(image[:, *roi.slices], out)


def _copied(view: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    if out is None:
        return view.copy(order="C")
    np.copyto(out, view)
    return out
