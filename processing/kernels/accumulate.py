"""Sums of frames: added up in a wide type, delivered in one that has a name on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.kernels import loops, marked_loops
from processing.kernels.jit import Accelerated, Argument
from processing.kernels.marks import BLOCK, Marks

Add = Callable[[NDArray[Any], NDArray[Any]], None]


def accumulated_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type in which a sum of frames of ``dtype`` is delivered: uint32, int32 or float32."""
    return np.dtype(f"{dtype.kind}4")


def total_dtype(dtype: np.dtype[Any], nb_frames: int = 1000) -> np.dtype[Any]:
    """Type in which ``nb_frames`` of ``dtype`` are added up without overflow.

    Floats are added in float64, so that many small frames do not lose digits.
    """
    if dtype.kind == "f":
        return np.dtype(np.float64)
    narrow = accumulated_dtype(dtype)
    largest = max(-int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) * nb_frames
    return narrow if largest <= int(np.iinfo(narrow).max) else np.dtype(f"{dtype.kind}8")


def add_into(total: NDArray[Any], image: NDArray[Any]) -> None:
    """Add ``image`` to ``total``, whose type is a `total_dtype`.

    Shapes: both (bands, rows, cols).
    """
    np.add(total, image, out=total)


def deliver(total: NDArray[Any], out: NDArray[Any]) -> None:
    """Write ``total`` in the type of ``out``; what does not fit reads as its largest value.

    Shapes: both (bands, rows, cols).
    """
    if total.dtype.kind in "ui" and total.itemsize > out.itemsize:
        limits = np.iinfo(out.dtype)
        np.clip(total, limits.min, limits.max, out=out, casting="unsafe")
    else:
        with np.errstate(over="ignore"):  # infinity is the largest value of a float
            np.copyto(out, total, casting="unsafe")


def choose_add(dtype: np.dtype[Any], total: np.dtype[Any], *, accelerate: bool = True) -> Add:
    """Give `add_into` or its compiled twin, for contiguous images of ``dtype``."""
    compiled = ADD.compiled(dtype) if accelerate and total == total_dtype(dtype) else None
    if compiled is None:
        return add_into
    loop = compiled

    def add(total: NDArray[Any], image: NDArray[Any]) -> None:
        loop(total.reshape(-1), np.ascontiguousarray(image).reshape(-1))

    return add


def add_marked(
    total: NDArray[Any], image: NDArray[Any], marks: NDArray[Any], own: NDArray[Any]
) -> None:
    """Add ``image`` to ``total``; a mark in one of them stays, no value before saturation.

    Shapes: both (bands, rows, cols), contiguous; ``marks`` of the image and ``own`` ones of the
    total (2,): no value, saturated.
    """
    sums, pixels = total.reshape(-1), image.reshape(-1)
    for start in range(0, sums.size, BLOCK):
        part, added = sums[start : start + BLOCK], pixels[start : start + BLOCK]
        empty, full = ((part == own[n]) | (added == marks[n]) for n in (0, 1))
        np.add(part, added, out=part)
        np.copyto(part, own[1], where=full)
        np.copyto(part, own[0], where=empty)


def choose_marked_add(marks: Marks, total: np.dtype[Any], *, accelerate: bool = True) -> Add:
    """Give what adds images with ``marks`` to totals; floats keep theirs by themselves."""
    if marks.dtype.kind == "f":
        return choose_add(marks.dtype, total, accelerate=accelerate)
    values, own = marks.pair, marks.to(total).pair
    ready = accelerate and total == total_dtype(marks.dtype)
    loop = ADD_MARKED.compiled(marks.dtype) if ready else None

    def add(total: NDArray[Any], image: NDArray[Any]) -> None:
        pixels = np.ascontiguousarray(image)
        if loop is None:
            add_marked(total, pixels, values, own)
        else:
            loop(total.reshape(-1), pixels.reshape(-1), values, own)

    return add


def _add_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...]:
    return (Argument(total_dtype(dtype), 1, written=True), Argument(dtype, 1))


def _add_marked_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...] | None:
    if dtype.name not in ("int16", "int32"):
        return None
    total = total_dtype(dtype)
    sums = Argument(total, 1, written=True)
    return (sums, Argument(dtype, 1), Argument(dtype, 1), Argument(total, 1))


ADD = Accelerated(loops.add, _add_arguments)
ADD_MARKED = Accelerated(marked_loops.add_marked, _add_marked_arguments)
