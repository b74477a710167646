"""Sums of blocks of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import ParamError


def binned_dtype(dtype: np.dtype[Any], rows: int, cols: int) -> np.dtype[Any]:
    """Type of the sum of ``rows`` x ``cols`` pixels of ``dtype``.

    Integers get the narrowest type of 8 to 32 bits and the same sign that holds any sum, else
    float64, which is exact for 2 million pixels of 32 bits. Floats keep their type.
    """
    if dtype.kind == "f" or rows * cols == 1:
        return dtype
    largest = max(-int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) * rows * cols
    for itemsize in (1, 2, 4):
        wider = np.dtype(f"{dtype.kind}{itemsize}")
        if largest <= int(np.iinfo(wider).max):
            return wider
    return np.dtype(np.float64)


def bin_sum(
    image: NDArray[Any], rows: int, cols: int, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Sum blocks of ``rows`` x ``cols`` pixels; incomplete blocks at the end are dropped.

    Shapes: image (bands, h, w); out (bands, h // rows, w // cols) of `binned_dtype`.

    Raises:
        ParamError: the image is smaller than one block.
    """
    bands, height, width = image.shape
    high, wide = height // rows, width // cols
    if high == 0 or wide == 0:
        raise ParamError(
            f"blocks of {rows}x{cols} do not fit in an image of {height}x{width}; "
            "choose smaller ones",
            path="binning",
        )
    dtype = binned_dtype(image.dtype, rows, cols)
    if out is None:
        out = np.empty((bands, high, wide), dtype)
    # Whole lines first: they are contiguous, and leave fewer pixels for the strided sums.
    lines = np.empty((high, wide * cols), dtype)
    for band in range(bands):
        used = image[band, : high * rows, : wide * cols]
        np.copyto(lines, used[::rows])
        for row in range(1, rows):
            np.add(lines, used[row::rows], out=lines)
        np.copyto(out[band], lines[:, ::cols])
        for col in range(1, cols):
            np.add(out[band], lines[:, col::cols], out=out[band])
    return out
