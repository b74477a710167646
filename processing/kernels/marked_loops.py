"""The loops of `loops` for images in which some values are marks; as there, for numba.

``marks`` (3,), of the type of the pixels, are the mark of no value, that of saturation, and the
smallest value of the type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def marked_run_statistics(
    pixels: Array,
    starts: Array,
    stops: Array,
    firsts: Array,
    marks: Array,
    zero: Any,
    table: Array,
) -> None:
    """Fill the table as `loops.run_statistics`, of the pixels that are no marks.

    The maximum is the mark of saturation where a pixel is saturated. What no pixel tells is NaN.
    """
    no_value, saturated, lowest = marks[0], marks[1], marks[2]
    for region in range(firsts.size - 1):
        first, last = firsts[region], firsts[region + 1]
        if first == last:
            table[:, region] = 0.0
            continue
        low, high = saturated, lowest
        count = np.int64(0)
        total = zero
        full = False
        for run in range(first, last):
            values = pixels[starts[run] : stops[run]]
            for i in range(values.size):
                value = values[i]
                full |= value == saturated
                bad = (value == no_value) | (value == saturated) | (value != value)
                count += np.int64(0) if bad else np.int64(1)
                total += zero if bad else value
                least = saturated if bad else value
                most = lowest if bad else value
                low = least if least < low else low
                high = most if most > high else high
        table[:, region] = np.nan
        table[5, region] = count
        if count > 0:
            mean = total / count
            squares = 0.0
            for run in range(first, last):
                values = pixels[starts[run] : stops[run]]
                for i in range(values.size):
                    value = values[i]
                    bad = (value == no_value) | (value == saturated) | (value != value)
                    away = 0.0 if bad else value - mean
                    squares += away * away
            table[0, region] = low
            table[1, region] = high
            table[2, region] = mean
            table[3, region] = np.sqrt(squares / count)
            table[4, region] = total
        if full:
            table[1, region] = saturated


def marked_column_statistics(
    image: Array, kept: Array, corner: Array, size: Array, marks: Array, zero: Any, table: Array
) -> None:
    """Fill the table as `loops.column_statistics`, of the pixels that are no marks.

    The maximum is the mark of saturation where a pixel is saturated. What no pixel tells is NaN,
    but zeros if none is ``kept``.
    """
    no_value, saturated, lowest = marks[0], marks[1], marks[2]
    row, col = corner[0], corner[1]
    height, width = size[0], size[1]
    count = np.zeros(width, np.int64)
    there = np.zeros(width, np.int64)
    total = np.full(width, zero)
    low = np.full(width, saturated)
    high = np.full(width, lowest)
    full = np.zeros(width, np.bool_)
    table[:, :] = 0.0
    for band in range(image.shape[0]):
        for i in range(height):
            line = image[band, row + i, col : col + width]
            for k in range(width):
                if kept.size == 0 or kept[band, i, k]:
                    value = line[k]
                    there[k] += 1
                    full[k] |= value == saturated
                    if value != no_value and value != saturated and value == value:
                        count[k] += 1
                        total[k] += value
                        low[k] = min(low[k], value)
                        high[k] = max(high[k], value)
    for k in range(width):
        if count[k]:
            table[2, k] = total[k] / count[k]
    for band in range(image.shape[0]):
        for i in range(height):
            line = image[band, row + i, col : col + width]
            for k in range(width):
                if kept.size == 0 or kept[band, i, k]:
                    value = line[k]
                    if value != no_value and value != saturated and value == value:
                        away = value - table[2, k]
                        table[3, k] += away * away
    for k in range(width):
        if count[k]:
            table[0, k] = low[k]
            table[1, k] = high[k]
            table[3, k] = np.sqrt(table[3, k] / count[k])
            table[4, k] = total[k]
            table[5, k] = count[k]
        elif there[k]:
            table[:5, k] = np.nan
        if full[k]:
            table[1, k] = saturated


def add_marked(total: Array, image: Array, marks: Array, total_marks: Array) -> None:
    """Add ``image`` to ``total``, both (pixels,); marks stay, no value before saturation.

    Shapes: ``marks`` of the image, ``total_marks`` (2,): no value, saturated.
    """
    no_value, saturated = marks[0], marks[1]
    total_no_value, total_saturated = total_marks[0], total_marks[1]
    for i in range(total.size):
        value, before = image[i], total[i]
        after = before + value
        after = total_saturated if value == saturated or before == total_saturated else after
        after = total_no_value if value == no_value or before == total_no_value else after
        total[i] = after


def restore_marks(image: Array, mask: Array, marks: Array, own: Array, out: Array) -> None:
    """Put the marks of ``image`` into ``out``, which was made of it, but where ``mask`` is set.

    Shapes: image, out (bands, pixels); mask (bands or 1, pixels), or (1, 0) if there is none;
    ``marks`` of the image and ``own`` ones of ``out`` (2,): no value, saturated.
    """
    bands, pixels = image.shape
    no_value, saturated = marks[0], marks[1]
    own_no_value, own_saturated = own[0], own[1]
    for band in range(bands):
        mask_band = min(band, mask.shape[0] - 1)
        values, results = image[band], out[band]
        if mask.size:
            hidden = mask[mask_band]
            for i in range(pixels):
                value, result = values[i], results[i]
                marked = own_saturated if value == saturated else result
                marked = own_no_value if value == no_value else marked
                results[i] = result if hidden[i] else marked
        else:
            for i in range(pixels):
                value, result = values[i], results[i]
                marked = own_saturated if value == saturated else result
                results[i] = own_no_value if value == no_value else marked
