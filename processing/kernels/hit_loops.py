"""The loops of `hits`, as numba compiles them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def count_hits(pixels: Array, threshold: Array, counts: Array) -> None:
    """Count the pixels of each block that reach the threshold.

    Shapes: pixels (n,); threshold (1,) of the same type; counts (blocks,), of 64 pixels each but
    for the last: with few hits most blocks have none, and are not looked at again.
    """
    least = threshold[0]
    whole = pixels.size // 64
    for block in range(whole):
        values = pixels[block * 64 : block * 64 + 64]
        count = np.int32(0)
        for i in range(64):
            count += np.int32(1) if values[i] >= least else np.int32(0)
        counts[block] = count
    if whole < counts.size:
        rest = np.int32(0)
        for i in range(whole * 64, pixels.size):
            rest += np.int32(1) if pixels[i] >= least else np.int32(0)
        counts[whole] = rest


def gather_hits(
    pixels: Array, threshold: Array, counts: Array, index: Array, intensity: Array
) -> None:
    """Put position and value of the pixels that reach the threshold into ``index``, ``intensity``.

    Where they are few a branch for each is cheap. In other blocks every pixel is written, and the
    next one over it if it is no hit.

    Shapes: as `count_hits`, which filled ``counts``; index, intensity (hits + 1,), of which the
    last place is for pixels that are none.
    """
    least = threshold[0]
    found = 0
    for block in range(counts.size):
        if counts[block] == 0:
            continue
        start = block * 64
        stop = min(start + 64, pixels.size)
        if counts[block] <= 4:
            end = found + counts[block]
            i = start
            while found < end and i < stop:
                if pixels[i] >= least:
                    index[found] = i
                    intensity[found] = pixels[i]
                    found += 1
                i += 1
        else:
            for i in range(start, stop):
                value = pixels[i]
                index[found] = i
                intensity[found] = value
                found += 1 if value >= least else 0
