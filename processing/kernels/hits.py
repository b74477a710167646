"""Which pixels of an image reach a threshold, and what they hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.kernels import hit_loops
from processing.kernels.jit import Accelerated, Argument

INDEX = np.dtype(np.int32)
"""Type of the position of a pixel, counted row by row."""
_BLOCK = 64
"""Pixels that are counted together, as `hit_loops` has it."""

Hits = tuple[NDArray[np.int32], NDArray[Any]]
Finder = Callable[[NDArray[Any], int], Hits | None]


def threshold_in(dtype: np.dtype[Any], threshold: float) -> NDArray[Any] | None:
    """The smallest value of ``dtype`` that is not below ``threshold``; None if there is none.

    Shapes: (1,).
    """
    if dtype.kind == "f":
        least = np.array([threshold], dtype)
        if float(least[0]) < threshold:
            least = np.nextafter(least, dtype.type(np.inf))
        return least
    limits = np.iinfo(dtype)
    if threshold > int(limits.max):
        return None
    return np.array([max(math.ceil(threshold), int(limits.min))], dtype)


def find_hits(pixels: NDArray[Any], least: NDArray[Any], most: int) -> Hits | None:
    """Position and value of the pixels from ``least`` on, in order; None if more than ``most``.

    Not-a-number is none of them.

    Shapes: pixels (n,), least (1,) -> (hits,), (hits,).
    """
    index = np.flatnonzero(pixels >= least[0])
    if len(index) > most:
        return None
    return index.astype(INDEX), pixels[index]


def choose_finder(dtype: np.dtype[Any], least: NDArray[Any], *, accelerate: bool = True) -> Finder:
    """Give `find_hits` or its compiled twin, for contiguous pixels of ``dtype``."""
    count = COUNT.compiled(dtype) if accelerate else None
    gather = GATHER.compiled(dtype) if accelerate else None

    def find(pixels: NDArray[Any], most: int) -> Hits | None:
        if count is None or gather is None:
            return find_hits(pixels, least, most)
        counts = np.empty(-(-pixels.size // _BLOCK), np.int32)
        count(pixels, least, counts)
        hits = int(counts.sum(dtype=np.int64))
        if hits > most:
            return None
        index, intensity = np.empty(hits + 1, INDEX), np.empty(hits + 1, dtype)
        gather(pixels, least, counts, index, intensity)
        return index[:hits], intensity[:hits]

    return find


def _count_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...]:
    counts = Argument(np.dtype(np.int32), 1, written=True)
    return (Argument(dtype, 1), Argument(dtype, 1), counts)


def _gather_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...]:
    return (
        Argument(dtype, 1),
        Argument(dtype, 1),
        Argument(np.dtype(np.int32), 1),
        Argument(INDEX, 1, written=True),
        Argument(dtype, 1, written=True),
    )


COUNT = Accelerated(hit_loops.count_hits, _count_arguments)
GATHER = Accelerated(hit_loops.gather_hits, _gather_arguments)
