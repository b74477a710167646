"""The statistics of `moments` for images in which some values are marks.

A pixel without value does not count at all. A saturated one counts neither, but the maximum is
then the mark of saturation, so that it is seen. Where no pixel was measured, all is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.kernels import marked_loops
from processing.kernels.jit import Accelerated, Argument
from processing.kernels.marks import Marks, measured
from processing.kernels.moments import (
    ColumnLoop,
    Moments,
    RunLoop,
    choose_column_loop,
    choose_run_loop,
    line_moments,
    moments,
    sum_dtype,
)


def marked_moments(cut: NDArray[Any], marks: Marks | None) -> Moments:
    """Statistics of the pixels of ``cut`` that were measured.

    Shapes: cut (bands, rows, cols), a view is enough.
    """
    if marks is None or cut.size == 0:
        return moments(cut)
    good = measured(cut, marks)
    if good.all():
        return moments(cut)
    values = cut[good]
    found = Moments(np.nan, np.nan, np.nan, np.nan, np.nan, 0.0)
    if values.size:
        found = moments(values.reshape(1, 1, -1))
    full = bool((cut == marks.saturated).any())
    return found._replace(max=float(marks.saturated)) if full else found


def marked_line_moments(
    cut: NDArray[Any],
    kept: NDArray[np.bool_] | None,
    count: NDArray[np.intp],
    axis: int,
    table: NDArray[np.float64],
    marks: Marks | None,
) -> None:
    """Statistics of each line along ``axis``, of the pixels that were measured.

    Shapes: as of `line_moments`.
    """
    if marks is None:
        line_moments(cut, kept, count, axis, table)
        return
    axes = (0, axis)
    good, full = measured(cut, marks), cut == marks.saturated
    if kept is not None:
        good &= kept
        full &= kept
    here = good.sum(axis=axes, dtype=np.intp)
    line_moments(cut, good, here, axis, table)
    table[:5, (here == 0) & (count > 0)] = np.nan
    table[1, full.any(axis=axes)] = marks.saturated


def choose_run(dtype: np.dtype[Any], marks: Marks | None) -> RunLoop | None:
    """Give the compiled statistics over runs of pixels, if it is ready."""
    if marks is None:
        return choose_run_loop(dtype)
    loop = MARKED_RUNS.compiled(dtype)
    if loop is None:
        return None
    values, zero = _values(marks), sum_dtype(dtype).type(0)

    def fill(
        pixels: NDArray[Any],
        starts: NDArray[np.intp],
        stops: NDArray[np.intp],
        firsts: NDArray[np.intp],
        table: NDArray[np.float64],
    ) -> None:
        loop(pixels, starts, stops, firsts, values, zero, table)

    return fill


def choose_column(dtype: np.dtype[Any], marks: Marks | None) -> ColumnLoop | None:
    """Give the compiled statistics of columns, if it is ready."""
    if marks is None:
        return choose_column_loop(dtype)
    loop = MARKED_COLUMNS.compiled(dtype)
    if loop is None:
        return None
    values, zero = _values(marks), sum_dtype(dtype).type(0)

    def fill(
        image: NDArray[Any],
        kept: NDArray[np.bool_],
        corner: NDArray[np.intp],
        size: NDArray[np.intp],
        table: NDArray[np.float64],
    ) -> None:
        loop(image, kept, corner, size, values, zero, table)

    return fill


def _values(marks: Marks) -> NDArray[Any]:
    """Both marks and the smallest value of the type."""
    lowest = -np.inf if marks.dtype.kind == "f" else np.iinfo(marks.dtype).min
    return np.append(marks.pair, np.array(lowest, marks.dtype))


_INDEX = Argument(np.dtype(np.intp), 1)
_TABLE = Argument(np.dtype(np.float64), 2, written=True)
_MARKED = ("int16", "int32", "float32", "float64")


def _run_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...] | None:
    if dtype.name not in _MARKED:
        return None
    pixels, marks = Argument(dtype, 1), Argument(dtype, 1)
    return (pixels, _INDEX, _INDEX, _INDEX, marks, Argument(sum_dtype(dtype)), _TABLE)


def _column_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...] | None:
    if dtype.name not in _MARKED:
        return None
    kept, marks = Argument(np.dtype(np.bool_), 3), Argument(dtype, 1)
    return (Argument(dtype, 3), kept, _INDEX, _INDEX, marks, Argument(sum_dtype(dtype)), _TABLE)


MARKED_RUNS = Accelerated(marked_loops.marked_run_statistics, _run_arguments, reorder_sums=True)
MARKED_COLUMNS = Accelerated(
    marked_loops.marked_column_statistics, _column_arguments, reorder_sums=True
)
