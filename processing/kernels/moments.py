"""Minimum, maximum, mean, population standard deviation and sum of pixels.

Sums of integers are exact. Deviations are measured from the mean (or are exact), so that a
small spread on a large offset survives. A NaN pixel makes all five NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.kernels import loops
from processing.kernels.jit import Accelerated, Argument

_BLOCK = 65536
"""Pixels converted to float64 at once: half a megabyte, which stays in the cache."""

RunLoop = Callable[
    [NDArray[Any], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]], None
]
ColumnLoop = Callable[
    [NDArray[Any], NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]],
    None,
]


class Moments(NamedTuple):
    """The statistics of a set of pixels, in the order of the records; zeros if it is empty.

    Tables of several sets have them as rows: (6, sets).
    """

    min: float
    max: float
    avg: float
    std: float
    sum: float
    pixels: float
    """How many that are."""


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type in which pixels are summed: int64 for integers (exact), float64 for floats."""
    return np.dtype(np.float64 if dtype.kind == "f" else np.int64)


def moments(cut: NDArray[Any]) -> Moments:
    """Statistics of all pixels of ``cut``.

    Shapes: cut (bands, rows, cols), a view is enough.
    """
    if cut.size == 0:
        return Moments(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    total = np.add.reduce(cut, axis=None, dtype=sum_dtype(cut.dtype))
    mean = float(total) / cut.size
    bands, rows, cols = cut.shape
    step = max(1, _BLOCK // (bands * cols))
    away = np.empty((bands, min(step, rows), cols))
    squares = 0.0
    for row in range(0, rows, step):
        block = cut[:, row : row + step]
        around = away[:, : block.shape[1]]
        np.subtract(block, mean, out=around, dtype=np.float64)
        np.square(around, out=around)
        squares += float(np.add.reduce(around, axis=None))
    return Moments(
        float(np.minimum.reduce(cut, axis=None)),
        float(np.maximum.reduce(cut, axis=None)),
        mean,
        float(np.sqrt(squares / cut.size)),
        float(total),
        float(cut.size),
    )


def line_moments(
    cut: NDArray[Any],
    kept: NDArray[np.bool_] | None,
    count: NDArray[np.intp],
    axis: int,
    table: NDArray[np.float64],
) -> None:
    """Statistics of each line along ``axis``, over all bands.

    Shapes: cut, kept (bands, rows, cols); axis 1 sums up rows and gives one entry per column,
    axis 2 one per row; count (entries,): pixels that count in each; table (6, entries).
    Pixels that are not ``kept`` are left out.
    """
    axes = (0, axis)
    chosen: Any = True if kept is None else kept
    some = np.maximum(count, 1)
    lowest, highest = _limits(cut.dtype)
    table[0] = np.minimum.reduce(cut, axis=axes, where=chosen, initial=highest)
    table[1] = np.maximum.reduce(cut, axis=axes, where=chosen, initial=lowest)
    total = np.add.reduce(cut, axis=axes, dtype=sum_dtype(cut.dtype), where=chosen)
    table[2] = total / some
    table[3] = 0.0
    mean = np.expand_dims(table[2], axis - 1)  # (1, cols) or (rows, 1)
    bands, rows, cols = cut.shape
    step = max(1, _BLOCK // (bands * cols))
    for row in range(0, rows, step):
        lines = slice(row, row + step)
        away = np.subtract(cut[:, lines], mean[lines if axis == 2 else slice(None)])
        np.square(away, out=away)
        part: Any = True if kept is None else kept[:, lines]
        target = table[3, lines] if axis == 2 else table[3]
        target += np.add.reduce(away, axis=axes, where=part)
    np.sqrt(table[3] / some, out=table[3])
    table[4] = total
    table[5] = count
    table[:, count == 0] = 0.0


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Smallest and largest value of a pixel."""
    if dtype.kind == "f":
        return -np.inf, np.inf
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def choose_run_loop(dtype: np.dtype[Any]) -> RunLoop | None:
    """Give the compiled statistics over runs of pixels, if it is ready for ``dtype``."""
    small, general = SMALL_RUNS.compiled(dtype), RUNS.compiled(dtype)
    if small is not None or general is None:
        return small
    loop, zero = general, sum_dtype(dtype).type(0)

    def fill(
        pixels: NDArray[Any],
        starts: NDArray[np.intp],
        stops: NDArray[np.intp],
        firsts: NDArray[np.intp],
        table: NDArray[np.float64],
    ) -> None:
        loop(pixels, starts, stops, firsts, zero, table)

    return fill


def choose_column_loop(dtype: np.dtype[Any]) -> ColumnLoop | None:
    """Give the compiled statistics of columns, if it is ready for ``dtype``."""
    small, general = SMALL_COLUMNS.compiled(dtype), COLUMNS.compiled(dtype)
    if small is not None or general is None:
        return small
    loop, zero = general, sum_dtype(dtype).type(0)

    def fill(
        image: NDArray[Any],
        kept: NDArray[np.bool_],
        corner: NDArray[np.intp],
        size: NDArray[np.intp],
        table: NDArray[np.float64],
    ) -> None:
        loop(image, kept, corner, size, zero, table)

    return fill


_INDEX = Argument(np.dtype(np.intp), 1)
_TABLE = Argument(np.dtype(np.float64), 2, written=True)


def _is_small(dtype: np.dtype[Any]) -> bool:
    """Whether sums of squares of whole images are exact in 64 bits."""
    return dtype.kind in "ui" and dtype.itemsize <= 2


def _small_run_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...] | None:
    return (Argument(dtype, 1), _INDEX, _INDEX, _INDEX, _TABLE) if _is_small(dtype) else None


def _run_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...] | None:
    zero = Argument(sum_dtype(dtype))
    runs = (_INDEX, _INDEX, _INDEX)
    return None if _is_small(dtype) else (Argument(dtype, 1), *runs, zero, _TABLE)


def _small_column_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...] | None:
    place = (Argument(np.dtype(np.bool_), 3), _INDEX, _INDEX)
    return (Argument(dtype, 3), *place, _TABLE) if _is_small(dtype) else None


def _column_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...] | None:
    place = (Argument(np.dtype(np.bool_), 3), _INDEX, _INDEX)
    zero = Argument(sum_dtype(dtype))
    return None if _is_small(dtype) else (Argument(dtype, 3), *place, zero, _TABLE)


SMALL_RUNS = Accelerated(loops.small_run_statistics, _small_run_arguments)
RUNS = Accelerated(loops.run_statistics, _run_arguments, reorder_sums=True)
SMALL_COLUMNS = Accelerated(loops.small_column_statistics, _small_column_arguments)
COLUMNS = Accelerated(loops.column_statistics, _column_arguments, reorder_sums=True)
