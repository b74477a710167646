"""What an emulated detector sees."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from camera_plugins.jungfrau.wire import ADC_MASK, GAIN_SHIFT, MODULE_COLS, MODULE_ROWS
from lima2_core.errors import ParamError

_CODES = (0, 1, 3)
"""Gain codes of the stages."""

_NOISE_STORE = 2**23

ImageSource = Callable[[int, int], NDArray[np.uint16]]
"""Gives the image of a module for (frame from 0, module): (512, 1024), contiguous."""


@lru_cache(maxsize=1)
def _gains() -> NDArray[np.uint16]:
    """Gain codes by column as in the virtual server: 0, 1 and 3."""
    columns = np.arange(MODULE_COLS)
    codes = np.select([columns < 300, columns < 600], [0, 1], 3) << GAIN_SHIFT
    return codes.astype(np.uint16)


@lru_cache(maxsize=1)
def _pixel_numbers() -> NDArray[np.uint16]:
    numbers = np.arange(MODULE_ROWS * MODULE_COLS, dtype=np.uint32) * 7
    return numbers.astype(np.uint16).reshape(MODULE_ROWS, MODULE_COLS)


def numbered_image(frame: int, module: int) -> NDArray[np.uint16]:
    """An image in which each pixel tells frame and module, so that a misplaced row shows."""
    offset = np.uint16((frame * 257 + module * 7919) & 0xFFFF)
    return ((_pixel_numbers() + offset) & np.uint16(ADC_MASK)) | _gains()


def numbered_images(frame: int, module: int) -> NDArray[np.uint16]:
    """`numbered_image` as a source of images."""
    return numbered_image(frame, module)


def pattern_image() -> NDArray[np.uint16]:
    """The picture of the virtual server: ADC = row / 4 + 1."""
    rows = (np.arange(MODULE_ROWS) // 4 + 1).astype(np.uint16)
    return np.ascontiguousarray(rows[:, np.newaxis] | _gains())


def repeated_image(image: NDArray[np.uint16]) -> ImageSource:
    """One module image for all modules and frames, as the packet generator of an FPGA does.

    Shapes: ``image`` (512, 1024).
    """
    return stacked_images(image[np.newaxis, np.newaxis])


def stacked_images(images: NDArray[np.uint16], where: str = "images") -> ImageSource:
    """Given images, again and again.

    Shapes: ``images`` (frames, 512, 1024) for every module, or (frames, modules, 512, 1024).

    Raises:
        ParamError: they are no module images; the path is ``where``.
    """
    if images.ndim == 3:
        images = images[:, np.newaxis]
    if images.shape[2:] != (MODULE_ROWS, MODULE_COLS) or images.dtype != np.uint16:
        raise ParamError(
            f"images of shape {images.shape}, type {images.dtype}; a module gives uint16 images "
            f"of {MODULE_ROWS} x {MODULE_COLS}",
            path=where,
        )
    if not images.size:
        raise ParamError("there is no image in it", path=where)
    images = np.ascontiguousarray(images)
    frames, modules = images.shape[:2]

    def image(frame: int, module: int) -> NDArray[np.uint16]:
        chosen: NDArray[np.uint16] = images[frame % frames, module % modules]
        return chosen

    return image


def dark_images(
    pedestal: NDArray[np.float32], rms: NDArray[np.float32], stage: int, seed: int = 0
) -> ImageSource:
    """Frames without light: normal noise around the pedestals of one gain stage.

    Each frame takes its noise from another place of a large store, so that it costs little.

    Shapes: ``pedestal`` and ``rms`` (modules, 3, 512, 1024) ADU; unknown (NaN) counts as 0.
    """
    level, width = (np.nan_to_num(maps[:, stage]) for maps in (pedestal, rms))
    code = np.uint16(_CODES[stage] << GAIN_SHIFT)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(_NOISE_STORE, np.float32)
    size = MODULE_ROWS * MODULE_COLS

    def image(frame: int, module: int) -> NDArray[np.uint16]:
        module %= len(level)
        first = int(rng.integers(0, _NOISE_STORE - size))
        drawn = noise[first : first + size].reshape(MODULE_ROWS, MODULE_COLS)
        adc = np.clip(np.rint(level[module] + width[module] * drawn), 0, ADC_MASK)
        words: NDArray[np.uint16] = adc.astype(np.uint16) | code
        return words

    return image
