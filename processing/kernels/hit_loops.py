"""The loops of `hits`, as numba compiles them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def count_hits(pixels: Array, threshold: Array, counts: Array) -> None:
    """Count the pixels of each block that reach the threshold.

    Shapes: pixels (n,); threshold (1,) of the same type; counts (blocks,), which share the pixels
    in equal blocks of 512 but for the last.
    """
    least = threshold[0]
    for block in range(counts.size):
        values = pixels[block * 512 : min(block * 512 + 512, pixels.size)]
        count = np.int32(0)
        for i in range(values.size):
            count += np.int32(1) if values[i] >= least else np.int32(0)
        counts[block] = count


def gather_hits(
    pixels: Array, threshold: Array, counts: Array, index: Array, intensity: Array
) -> None:
    """Put position and value of the pixels that reach the threshold into ``index``, ``intensity``.

    Shapes: as `count_hits`, which filled ``counts``; index, intensity (hits + 1,): each pixel is
    written, and kept if it is one, so that there is no branch. The last place is for that.
    """
    least = threshold[0]
    found = 0
    for block in range(counts.size):
        if counts[block] > 0:
            start = block * 512
            values = pixels[start : min(start + 512, pixels.size)]
            for i in range(values.size):
                index[found] = start + i
                intensity[found] = values[i]
                found += 1 if values[i] >= least else 0
