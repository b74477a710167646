"""Images to draw, as fast as the memory takes them.

Gaussian and diffraction patterns are sums of products of a column and a row vector, so nothing
transcendental is computed per pixel. Images are drawn in blocks of rows that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from camera_plugins.simulator.params import DiffractionParams, GaussParams, GeneratorParams
from camera_plugins.simulator.view import View

Values = NDArray[np.floating[Any]]

_BLOCK_BYTES = 2**19
_APERTURE_ZERO = 64.0
"""Pixels from the centre of the diffraction pattern to its first zero."""
_APERTURE_MAX = 200.0
_SPIRAL_MAX = 200.0
_SPIRAL_PITCH = 64.0
"""Pixels from arm to arm."""


class Pattern(Protocol):
    """Brightness of the detector, seen through a view."""

    moves: bool
    """Whether `block` depends on the image number."""

    def block(self, number: int, first: int, end: int) -> Values:
        """Rows ``first`` to ``end`` of the image.

        Shapes: (end - first, cols).
        """
        ...

    def amplitude(self, number: int) -> float:
        """What an image is to be multiplied with."""
        ...


class Gauss:
    """A sum of peaks that may grow from image to image."""

    moves = False

    def __init__(self, params: GaussParams, view: View, dtype: np.dtype[Any]) -> None:
        self._grow_factor = params.grow_factor
        x0, y0, fwhm, height = (
            np.array([(peak.x0, peak.y0, peak.fwhm, peak.max) for peak in params.peaks], np.float64)
            .reshape(-1, 4)
            .T
        )
        steepness = 4 * np.log(2) / fwhm**2
        rows, cols = view.detector_rows[:, :, None], view.detector_cols[:, :, None]
        with np.errstate(under="ignore"):
            down = np.exp(-steepness * (rows - y0) ** 2).sum(1) * height
            along = np.exp(-steepness * (cols - x0) ** 2).sum(1)
            self._down = down.astype(dtype)
            self._along = np.ascontiguousarray(along.T.astype(dtype))

    def block(self, number: int, first: int, end: int) -> Values:
        values: Values = self._down[first:end] @ self._along
        return values

    def amplitude(self, number: int) -> float:
        return 1 + self._grow_factor * number


class Diffraction:
    """The far field of a square aperture; its centre may move from image to image."""

    def __init__(self, params: DiffractionParams, view: View, dtype: np.dtype[Any]) -> None:
        self.moves = params.source_speed_x != 0 or params.source_speed_y != 0
        self._params = params
        self._rows, self._cols = view.detector_rows, view.detector_cols
        self._dtype = dtype
        self._number = -1
        self._draw(0)

    def _draw(self, number: int) -> None:
        params = self._params
        y = params.y0 + params.source_pos_y + number * params.source_speed_y
        x = params.x0 + params.source_pos_x + number * params.source_speed_x
        down = (np.sinc((self._rows - y) / _APERTURE_ZERO) ** 2).sum(1)
        along = (np.sinc((self._cols - x) / _APERTURE_ZERO) ** 2).sum(1)
        self._down = (_APERTURE_MAX * down).astype(self._dtype)
        self._along = along.astype(self._dtype)
        self._number = number

    def block(self, number: int, first: int, end: int) -> Values:
        if self.moves and number != self._number:
            self._draw(number)
        values: Values = np.multiply.outer(self._down[first:end], self._along)
        return values

    def amplitude(self, number: int) -> float:
        return 1.0


class Spiral:
    """An Archimedean spiral around the middle of the detector."""

    moves = False

    def __init__(self, view: View, rows: int, cols: int, dtype: np.dtype[Any]) -> None:
        self._y = (view.detector_rows - (rows - 1) / 2).astype(dtype)
        self._x = (view.detector_cols - (cols - 1) / 2).astype(dtype)

    def block(self, number: int, first: int, end: int) -> Values:
        y, x = self._y[first:end].reshape(-1, 1), self._x.reshape(1, -1)
        radius = np.sqrt(y * y + x * x)
        turn = radius * radius.dtype.type(2 * np.pi / _SPIRAL_PITCH)
        # The cosine of the difference of two angles, without the arc tangent for one of them.
        arms: Values = (x * np.cos(turn) + y * np.sin(turn)) / np.maximum(radius, 1)
        arms = (arms + 1) * radius.dtype.type(_SPIRAL_MAX / 2)
        bins_y, bins_x = self._y.shape[1], self._x.shape[1]
        if bins_y * bins_x > 1:
            arms = arms.reshape(end - first, bins_y, -1, bins_x).sum((1, 3))
        return arms

    def amplitude(self, number: int) -> float:
        return 1.0


def nb_images(params: GeneratorParams, nb_prefetch_frames: int) -> int:
    """How many different images there are."""
    speeds = (params.diffraction.source_speed_x, params.diffraction.source_speed_y)
    changes = {
        "gauss": params.gauss.grow_factor != 0 and bool(params.gauss.peaks),
        "diffraction": any(speeds),
        "spiral": False,
    }
    return nb_prefetch_frames if changes[params.type] else 1


def draw(
    params: GeneratorParams,
    view: View,
    detector_size: tuple[int, int],
    images: Sequence[NDArray[Any]],
) -> None:
    """Draw image n of the sequence into ``images[n]``.

    Shapes: each (bands, rows, cols), any of the pixel types.
    """
    bands, rows, cols = images[0].shape
    dtype = images[0].dtype
    # A float32 holds the numbers of 16 bits exactly; the limits of 32 bits it does not.
    exact_in_float32 = dtype == np.float32 or dtype.itemsize <= 2
    work = np.dtype(np.float32 if exact_in_float32 else np.float64)
    pattern = _pattern(params, view, detector_size, work)
    integers = dtype.kind in "iu"
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if integers else (None, None)
    step = max(1, _BLOCK_BYTES // (cols * work.itemsize))
    scratch = np.empty((min(step, rows), cols), work)
    for first in range(0, rows, step):
        end = min(first + step, rows)
        values = scratch[: end - first]
        base = pattern.block(0, first, end)
        for number, image in enumerate(images):
            if pattern.moves:
                base = pattern.block(number, first, end)
            for band in range(bands):
                factor = pattern.amplitude(number) * (1 - band / bands)
                np.multiply(base, work.type(factor), out=values)
                if integers:
                    np.rint(values, out=values)
                    np.clip(values, low, high, out=values)
                image[band, first:end] = values


def _pattern(
    params: GeneratorParams, view: View, detector_size: tuple[int, int], dtype: np.dtype[Any]
) -> Pattern:
    if params.type == "gauss":
        return Gauss(params.gauss, view, dtype)
    if params.type == "diffraction":
        return Diffraction(params.diffraction, view, dtype)
    return Spiral(view, *detector_size, dtype)
