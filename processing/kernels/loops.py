"""Loops over pixels as numba compiles them; `compiled` names their argument types.

Each function stands alone, as numba compiles it from its source. They are written for the
vectoriser of the compiler: simple inner loops, accumulators in local variables, no branch
that depends on the pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def correct(
    image: Array,
    background: Array,
    flatfield: Array,
    mask: Array,
    steps: Array,
    out: Array,
) -> None:
    """Subtract, divide and mask, in blocks that stay in the first-level cache.

    Shapes: image, out (bands, pixels); the maps (bands or 1, pixels), or (1, 0) where the
    flag in ``steps`` (3,) says that there is none.
    """
    bands, pixels = image.shape
    for band in range(bands):
        background_band = min(band, background.shape[0] - 1)
        flatfield_band = min(band, flatfield.shape[0] - 1)
        mask_band = min(band, mask.shape[0] - 1)
        for start in range(0, pixels, 2048):
            stop = min(start + 2048, pixels)
            values = image[band, start:stop]
            results = out[band, start:stop]
            if steps[0]:
                offsets = background[background_band, start:stop]
                for i in range(results.size):
                    results[i] = background.dtype.type(values[i]) - offsets[i]
            else:
                for i in range(results.size):
                    results[i] = values[i]
            if steps[1]:
                gains = flatfield[flatfield_band, start:stop]
                for i in range(results.size):
                    results[i] = results[i] / gains[i]
            if steps[2]:
                hidden = mask[mask_band, start:stop]
                for i in range(results.size):
                    results[i] = np.float32(0) if hidden[i] else results[i]


def hide(image: Array, mask: Array, out: Array) -> None:
    """Copy, but 0 where ``mask`` is set.

    Shapes: image, out (bands, pixels), mask (bands or 1, pixels).
    """
    bands, pixels = image.shape
    for band in range(bands):
        mask_band = min(band, mask.shape[0] - 1)
        for i in range(pixels):
            out[band, i] = 0 if mask[mask_band, i] else image[band, i]


def add(total: Array, image: Array) -> None:
    """Add ``image`` to ``total``; both (pixels,)."""
    for i in range(total.size):
        total[i] += image[i]


def small_run_statistics(
    pixels: Array, starts: Array, stops: Array, firsts: Array, table: Array
) -> None:
    """Fill min, max, mean, deviation, sum and count of regions of integers of 8 or 16 bits.

    One pass: the sums of values and of squares are exact, so the variance is exact too.

    Shapes: pixels (n,); starts, stops (runs,), each run one span of ``pixels``;
    firsts (regions + 1,): runs firsts[k] to firsts[k + 1] are region k; table (6, regions).
    """
    for region in range(firsts.size - 1):
        first, last = firsts[region], firsts[region + 1]
        if first == last:
            table[:, region] = 0.0
            continue
        low = high = pixels[starts[first]]
        count = np.int64(0)
        total = np.int64(0)
        squares = np.int64(0)
        for run in range(first, last):
            values = pixels[starts[run] : stops[run]]
            count += values.size
            for i in range(values.size):
                value = values[i]
                low = value if value < low else low
                high = value if value > high else high
                wide = np.int64(value)
                total += wide
                squares += wide * wide
        # The whole part of the mean leaves the squares before they become float.
        whole = total // count
        rest = (total - whole * count) / count
        around = squares - 2 * whole * total + whole * whole * count
        table[0, region] = low
        table[1, region] = high
        table[2, region] = total / count
        table[3, region] = np.sqrt(max(around / count - rest * rest, 0.0))
        table[4, region] = total
        table[5, region] = count


def run_statistics(
    pixels: Array, starts: Array, stops: Array, firsts: Array, zero: Any, table: Array
) -> None:
    """Fill the table as `small_run_statistics`, for any pixel type, in two passes.

    ``zero`` is of the type of the sum: int64 for integers, float64 for floats.
    """
    for region in range(firsts.size - 1):
        first, last = firsts[region], firsts[region + 1]
        if first == last:
            table[:, region] = 0.0
            continue
        low = high = pixels[starts[first]]
        count = np.int64(0)
        total = zero
        unordered = False
        for run in range(first, last):
            values = pixels[starts[run] : stops[run]]
            count += values.size
            for i in range(values.size):
                value = values[i]
                low = value if value < low else low
                high = value if value > high else high
                total += value
            for i in range(values.size):
                unordered |= values[i] != values[i]  # NaN
        mean = total / count
        squares = 0.0
        for run in range(first, last):
            values = pixels[starts[run] : stops[run]]
            for i in range(values.size):
                away = values[i] - mean
                squares += away * away
        table[0, region] = np.nan if unordered else low
        table[1, region] = np.nan if unordered else high
        table[2, region] = mean
        table[3, region] = np.sqrt(squares / count)
        table[4, region] = total
        table[5, region] = count


def small_column_statistics(
    image: Array, kept: Array, corner: Array, size: Array, table: Array
) -> None:
    """Fill the statistics of each column of a rectangle of integers of 8 or 16 bits.

    Shapes: image (bands, rows, cols); kept (bands, *size), or (0, 0, 0) if all pixels count;
    corner, size (2,): row and column; table (6, size[1]).
    """
    row, col = corner[0], corner[1]
    height, width = size[0], size[1]
    low = np.full(width, 1 << 30, np.int32)
    high = np.full(width, -(1 << 30), np.int32)
    total = np.zeros(width, np.int64)
    squares = np.zeros(width, np.int64)
    count = np.zeros(width, np.int64)
    for band in range(image.shape[0]):
        for i in range(height):
            line = image[band, row + i, col : col + width]
            if kept.size:
                for k in range(width):
                    if kept[band, i, k]:
                        value = np.int32(line[k])
                        low[k] = min(low[k], value)
                        high[k] = max(high[k], value)
                        count[k] += 1
                        wide = np.int64(value)
                        total[k] += wide
                        squares[k] += wide * wide
            else:
                for k in range(width):
                    value = np.int32(line[k])
                    low[k] = min(low[k], value)
                    high[k] = max(high[k], value)
                    wide = np.int64(value)
                    total[k] += wide
                    squares[k] += wide * wide
    if not kept.size:
        count[:] = image.shape[0] * height
    for k in range(width):
        if count[k] == 0:
            table[:, k] = 0.0
            continue
        whole = total[k] // count[k]
        rest = (total[k] - whole * count[k]) / count[k]
        around = squares[k] - 2 * whole * total[k] + whole * whole * count[k]
        table[0, k] = low[k]
        table[1, k] = high[k]
        table[2, k] = total[k] / count[k]
        table[3, k] = np.sqrt(max(around / count[k] - rest * rest, 0.0))
        table[4, k] = total[k]
        table[5, k] = count[k]


def column_statistics(
    image: Array, kept: Array, corner: Array, size: Array, zero: Any, table: Array
) -> None:
    """Fill the table as `small_column_statistics`, for any pixel type, in two passes."""
    row, col = corner[0], corner[1]
    height, width = size[0], size[1]
    count = np.zeros(width, np.int64)
    total = np.full(width, zero)
    unordered = np.zeros(width, np.bool_)
    table[:, :] = 0.0
    for band in range(image.shape[0]):
        for i in range(height):
            line = image[band, row + i, col : col + width]
            for k in range(width):
                if kept.size == 0 or kept[band, i, k]:
                    value = line[k]
                    if count[k] == 0 or value < table[0, k]:
                        table[0, k] = value
                    if count[k] == 0 or value > table[1, k]:
                        table[1, k] = value
                    unordered[k] |= value != value  # NaN
                    count[k] += 1
                    total[k] += value
    for k in range(width):
        if count[k]:
            table[2, k] = total[k] / count[k]
            table[4, k] = total[k]
            table[5, k] = count[k]
        if unordered[k]:
            table[:2, k] = np.nan
    for band in range(image.shape[0]):
        for i in range(height):
            line = image[band, row + i, col : col + width]
            for k in range(width):
                if kept.size == 0 or kept[band, i, k]:
                    away = line[k] - table[2, k]
                    table[3, k] += away * away
    for k in range(width):
        if count[k]:
            table[3, k] = np.sqrt(table[3, k] / count[k])
