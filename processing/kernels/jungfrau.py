"""Raw words of a charge-integrating detector with adaptive gain to photons, with numpy.

Bits 15-14 of a word tell the gain stage (0 G0, 1 G1, 3 G2), bits 13-0 are the ADC. Three words
are no measurement: 0xC000 is a saturated pixel; 0xFFFF and all words with gain code 2, which no
detector sends, stand for missing pixels. `processing.kernels.opencl` does the same on a device.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from processing.kernels.marks import Marks
from processing.kernels.photon_maps import QUARTERS, PhotonMaps
from processing.kernels.placing import MODULE_COLS, Placing

FIRST_SWITCHED = 0x4000
"""All words from here on are of another stage than G0, or none."""
ADC_BITS = 0x3FFF
SATURATED_WORD = 0xC000
LOST_WORD = 0xFFFF
"""With this some receivers fill what did not arrive."""
NO_DATA_WORD = 0x8000
"""Gain code 2: with this missing packets should be filled."""
STAGE_OF_CODE = np.array([0, 1, -1, 2], np.int8)
"""Gain stage by the upper two bits; -1 is none."""

_ROWS = 256
"""Rows treated at once: intermediate results stay in the cache, and calls are few."""


class PhotonKernel(Protocol):
    """Something that converts frames.

    Threads: `apply` from any number at a time; `follow` from one.
    """

    def apply(self, raw: NDArray[np.uint16], out: NDArray[Any]) -> None:
        """Convert a frame.

        Shapes: ``raw`` contiguous, as many pixels as the maps have; ``out`` contiguous, of the
        shape of the placing.
        """
        ...

    def follow(self, maps: PhotonMaps) -> None:
        """Take other maps of the same kind for the frames to come."""
        ...


class NumpyPhotons:
    """The version that works everywhere."""

    def __init__(self, maps: PhotonMaps, placing: Placing) -> None:
        self._maps = maps
        self._placing = placing
        self._empty = placing.put(np.zeros(placing.pixels, np.bool_), True).reshape(-1).nonzero()[0]

    def follow(self, maps: PhotonMaps) -> None:
        self._maps = maps

    def apply(self, raw: NDArray[np.uint16], out: NDArray[Any]) -> None:
        maps, placing = self._maps, self._placing
        planes = raw.reshape(-1, MODULE_COLS)
        for band in placing.bands(out, _ROWS):
            words = planes[band.raw].reshape(-1)
            start = band.raw.start * MODULE_COLS
            values = _in_g0(words, maps, slice(start, start + words.size))
            switched = np.flatnonzero(words >= FIRST_SWITCHED)
            if switched.size:
                values[switched] = _switched(words[switched], maps, start + switched)
            band.places[...] = values.reshape(band.places.shape)
        flat = out.reshape(-1)
        flat[self._empty] = maps.marks.no_value
        if len(placing.shares):
            share(flat, placing.shares, maps.marks)


def _in_g0(words: NDArray[np.uint16], maps: PhotonMaps, where: slice) -> NDArray[Any]:
    """Photons of words as if all were of stage G0."""
    marks, offset, factor = maps.marks, maps.offset[0, where], maps.factor[0, where]
    if maps.narrow:
        quarters = words.astype(np.int32) * QUARTERS
        quarters -= offset
        values = quarters.astype(np.float32)
        values *= factor.astype(np.float32) * maps.scale[0]
    else:
        values = words.astype(np.float32)
        values -= offset
        values *= factor
    result = rounded(values, marks)
    if maps.narrow:
        result[factor == 0] = marks.no_value
    return result


def _switched(words: NDArray[np.uint16], maps: PhotonMaps, where: NDArray[np.intp]) -> NDArray[Any]:
    """Photons of words that are not of stage G0."""
    marks = maps.marks
    stage = STAGE_OF_CODE[words >> 14]
    missing = (stage < 0) | (words == LOST_WORD)
    stage = np.where(missing, 0, stage)
    adc = (words & ADC_BITS).astype(np.int32)
    offset, factor = maps.offset[stage, where], maps.factor[stage, where]
    if maps.narrow:
        values = (adc * QUARTERS - offset).astype(np.float32) * (factor * maps.scale[stage])
        missing |= factor == 0
    else:
        values = (adc.astype(np.float32) - offset) * factor
    result = rounded(values, marks)
    result[missing] = marks.no_value
    result[(words == SATURATED_WORD) & maps.valid[0, where]] = marks.saturated
    result[(words == SATURATED_WORD) & ~maps.valid[0, where]] = marks.no_value
    return result


def rounded(values: NDArray[np.float32], marks: Marks) -> NDArray[Any]:
    """Values in the type of the output: integers to the nearest, half to even."""
    if marks.dtype.kind == "f":
        return values
    low, high = marks.limits
    np.clip(values, low, high, out=values)
    return np.rint(values, out=values).astype(marks.dtype)


def share(flat: NDArray[Any], shares: NDArray[np.int32], marks: Marks) -> None:
    """Spread double-size pixels evenly over the gap pixels that they cover.

    Integers keep their sum: what is not divisible stays in the pixel itself. Marks are copied.

    Shapes: ``flat`` the image as (pixels,); ``shares`` (double-size pixels, 4).
    """
    own, targets = shares[:, 0], shares[:, 1:]
    values = flat[own]
    parts = 1 + (targets >= 0).sum(axis=1)
    if marks.dtype.kind == "f":
        part = (values * (1 / parts).astype(np.float32)).astype(marks.dtype)
        rest = part
    else:
        part = values >> (parts // 2)
        rest = values - part * (parts - 1).astype(marks.dtype)
        marked = (values == marks.no_value) | (values == marks.saturated)
        part, rest = np.where(marked, values, part), np.where(marked, values, rest)
    for n in range(3):
        used = targets[:, n] >= 0
        flat[targets[used, n]] = part[used]
    flat[own] = rest
