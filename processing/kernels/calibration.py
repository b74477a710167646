"""Background, flat field and mask in one pass over the pixels.

A masked pixel reads 0 whatever the pixel type: sums, regions and compression then need no
special case, where NaN would spoil each of them. A pixel whose flat field is 0 or not finite
measures nothing and is treated as masked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import ParamError
from processing.kernels import loops, marked_loops
from processing.kernels.jit import Accelerated, Argument
from processing.kernels.marks import Marks

Map = NDArray[Any] | None
Correct = Callable[[NDArray[Any], NDArray[Any]], None]

_BLOCK = 65536
"""Pixels treated at once by numpy: the intermediate result stays in the cache."""


def corrected_dtype(dtype: np.dtype[Any], *, calibrated: bool) -> np.dtype[Any]:
    """Type of the result: float32 with background or flat field, else the type of the input."""
    return np.dtype(np.float32) if calibrated else dtype


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type in which the background is subtracted: float32 for up to 16 bits, else float64.

    The difference of two large numbers would lose its digits in float32.
    """
    return np.result_type(dtype, np.float32)


def correct_pixels(
    image: NDArray[Any], background: Map, flatfield: Map, mask: Map, out: NDArray[Any]
) -> None:
    """Write ``(image - background) / flatfield`` to ``out``, and 0 where ``mask`` is not 0.

    Each map may be None. Maps need no preparation here, but `PixelCorrection` prepares them
    once, and then a call converts nothing.

    Shapes: image, out (bands, rows, cols), out of `corrected_dtype`; maps (rows, cols) or
    (bands, rows, cols).
    """
    bands, rows, cols = image.shape
    maps = [None if m is None else np.broadcast_to(m, image.shape) for m in (background, flatfield)]
    hidden = None if mask is None else np.broadcast_to(mask, image.shape).astype(bool, copy=False)
    working = working_dtype(image.dtype)
    step = max(1, _BLOCK // cols)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for band in range(bands):
            for row in range(0, rows, step):
                block = (band, slice(row, row + step))
                target = out[block]
                if maps[0] is None:
                    np.copyto(target, image[block], casting="unsafe")
                else:
                    offsets = maps[0][block]
                    np.subtract(image[block], offsets, target, dtype=working, casting="unsafe")
                if maps[1] is not None:
                    np.divide(target, maps[1][block], target, dtype=np.float32, casting="unsafe")
                if hidden is not None:
                    np.copyto(target, 0, where=hidden[block])


class PixelCorrection:
    """The correction of all frames of a run, with its maps converted and checked.

    Args:
        shape: of the images, (bands, rows, cols).
        dtype: of their pixels.
        background: subtracted; as all maps (rows, cols) or (bands, rows, cols), or None.
        flatfield: what is left is divided by it.
        mask: pixels that are not 0 here read 0.
        accelerate: whether to take the compiled version if it is ready.
        marks: values that are no measurements; they become those of the result.

    Raises:
        ParamError: a map has another shape than the images.

    Threads: `apply` on any number of threads at a time.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        *,
        background: Map = None,
        flatfield: Map = None,
        mask: Map = None,
        accelerate: bool = True,
        marks: Marks | None = None,
    ) -> None:
        self._shape = shape
        calibrated = background is not None or flatfield is not None
        self.dtype = corrected_dtype(dtype, calibrated=calibrated)
        """Of the result."""
        self._background = _prepared("background", background, shape, working_dtype(dtype))
        self._flatfield = _prepared("flatfield", flatfield, shape, np.dtype(np.float32))
        hidden = None if mask is None else np.asarray(mask) != 0
        self._mask = _prepared("mask", hidden, shape, np.dtype(np.bool_))
        if self._flatfield is not None:
            dead = ~np.isfinite(self._flatfield) | (self._flatfield == 0)
            if dead.any():
                self._mask = dead if self._mask is None else self._mask | dead
        self._apply = self._choose(dtype) if accelerate else self._apply_numpy
        # Floats keep theirs by themselves, and so does what is only masked.
        if marks is not None and dtype.kind in "iu" and calibrated:
            self._apply = self._with_marks(self._apply, marks, accelerate=accelerate)

    def apply(self, image: NDArray[Any], out: NDArray[Any]) -> None:
        """Correct ``image`` into ``out``.

        Shapes: both (bands, rows, cols); out contiguous, of `dtype`.
        """
        self._apply(image, out)

    def _apply_numpy(self, image: NDArray[Any], out: NDArray[Any]) -> None:
        correct_pixels(image, self._background, self._flatfield, self._mask, out)

    def _choose(self, dtype: np.dtype[Any]) -> Correct:
        steps = np.array([m is not None for m in (self._background, self._flatfield, self._mask)])
        mask = _flat(self._mask, np.dtype(np.bool_))
        bands = self._shape[0]
        if steps[:2].any():
            correct = CORRECT.compiled(dtype)
            if correct is None:
                return self._apply_numpy
            fused = correct
            background = _flat(self._background, working_dtype(dtype))
            flatfield = _flat(self._flatfield, np.dtype(np.float32))

            def apply(image: NDArray[Any], out: NDArray[Any]) -> None:
                pixels = np.ascontiguousarray(image).reshape(bands, -1)
                fused(pixels, background, flatfield, mask, steps, out.reshape(bands, -1))

        else:
            hide = HIDE.compiled(dtype)
            if hide is None or self._mask is None:
                return self._apply_numpy
            masking = hide

            def apply(image: NDArray[Any], out: NDArray[Any]) -> None:
                pixels = np.ascontiguousarray(image).reshape(bands, -1)
                masking(pixels, mask, out.reshape(bands, -1))

        return apply

    def _with_marks(self, correct: Correct, marks: Marks, *, accelerate: bool) -> Correct:
        """What corrects, and then puts the marks in again."""
        values, own = marks.pair, marks.to(self.dtype).pair
        hidden, bands = self._mask, self._shape[0]
        mask = _flat(hidden, np.dtype(np.bool_))
        loop = RESTORE.compiled(marks.dtype) if accelerate and self.dtype == np.float32 else None

        def apply(image: NDArray[Any], out: NDArray[Any]) -> None:
            correct(image, out)
            if loop is not None:
                pixels = np.ascontiguousarray(image).reshape(bands, -1)
                loop(pixels, mask, values, own, out.reshape(bands, -1))
            else:
                restore_marks(image, hidden, values, own, out)

        return apply


def restore_marks(
    image: NDArray[Any], hidden: Map, marks: NDArray[Any], own: NDArray[Any], out: NDArray[Any]
) -> None:
    """Put the marks of ``image`` into ``out``, which was made of it, but where it is ``hidden``.

    Shapes: image, out (bands, rows, cols), hidden the same or (1, rows, cols); ``marks`` of the
    image and ``own`` ones of ``out`` (2,): no value, saturated.
    """
    for n in (1, 0):
        found = image == marks[n]
        if hidden is not None:
            found &= ~hidden
        np.copyto(out, own[n], where=found)


def _prepared(
    name: str, values: Map, shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    """Give the map as (1 or bands, rows, cols), contiguous."""
    if values is None:
        return None
    if values.shape not in (shape[1:], shape, (1, *shape[1:])):
        raise ParamError(
            f"the map has the shape {values.shape}, the images have {shape}; "
            "give one of (rows, cols) or (bands, rows, cols) after binning and flip",
            path=name,
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype).reshape(-1, *shape[1:])


def _flat(values: Map, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give the map as (1 or bands, pixels); an absent one as (1, 0)."""
    return np.zeros((1, 0), dtype) if values is None else values.reshape(len(values), -1)


def _correct_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...]:
    single, flag = np.dtype(np.float32), np.dtype(np.bool_)
    maps = (Argument(working_dtype(dtype), 2), Argument(single, 2), Argument(flag, 2))
    return (Argument(dtype, 2), *maps, Argument(flag, 1), Argument(single, 2, written=True))


def _hide_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...]:
    mask = Argument(np.dtype(np.bool_), 2)
    return (Argument(dtype, 2), mask, Argument(dtype, 2, written=True))


def _restore_arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...] | None:
    if dtype.name not in ("int16", "int32"):
        return None
    single = np.dtype(np.float32)
    maps = (Argument(np.dtype(np.bool_), 2), Argument(dtype, 1), Argument(single, 1))
    return (Argument(dtype, 2), *maps, Argument(single, 2, written=True))


CORRECT = Accelerated(loops.correct, _correct_arguments)
HIDE = Accelerated(loops.hide, _hide_arguments)
RESTORE = Accelerated(marked_loops.restore_marks, _restore_arguments)
