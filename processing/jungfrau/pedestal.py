"""Pedestals from dark frames: mean and rms of each gain stage, bad pixels, and their drift.

A pixel is bad (`BadPixel`) if in a stage that was measured it has fewer than ``min_frames``
readings (UNSEEN), more than ``wrong_share`` of all readings are of other stages (WRONG_STAGE), or
its rms is above ``noise_factor`` times the median of its module (NOISY); if its rms in G0 is 0
(FROZEN) or its gain in G0 is unknown (NO_GAIN). Saturated and missing words count as wrong.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from processing.jungfrau.calibration import STAGES, BadPixel, Calibration
from processing.jungfrau.conditions import Conditions
from processing.kernels.jungfrau import ADC_BITS, LOST_WORD, SATURATED_WORD
from processing.kernels.placing import MODULE_SHAPE

_CODES = (0, 1, 3)
"""Upper two bits of each stage."""
_BLOCK = 65536
"""Pixels treated at once: intermediate results stay in the cache."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a pixel is bad."""

    min_frames: int = 10
    wrong_share: float = 0.01
    noise_factor: float = 5.0


class _Stage:
    """Exact sums of one stage, for up to 2**18 frames. Shapes: (pixels,)."""

    def __init__(self, pixels: int) -> None:
        self.frames = 0
        self.count = np.zeros(pixels, np.uint32)
        self.total = np.zeros(pixels, np.uint64)
        self.squares = np.zeros(pixels, np.uint64)

    def add(self, words: NDArray[np.uint16], code: int) -> None:
        self.frames += 1
        for start in range(0, words.size, _BLOCK):
            block = words[start : start + _BLOCK]
            where = slice(start, start + block.size)
            good = (block >> 14 == code) & (block != SATURATED_WORD) & (block != LOST_WORD)
            adc = np.where(good, block & ADC_BITS, 0).astype(np.uint32)
            self.count[where] += good
            self.total[where] += adc
            self.squares[where] += adc * adc  # 28 bits

    def moments(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation; NaN where there is no reading."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.total / self.count
            # n * squares - total^2 in exact integers: the difference of means would lose digits.
            spread = self.count * self.squares - self.total * self.total
            rms = np.sqrt(spread.astype(np.float64)) / self.count
        return mean.astype(np.float32), rms.astype(np.float32)


class PedestalRun:
    """Collects dark frames of all modules; one thread at a time.

    A frame belongs to the stage that most of its words are of, unless it is named.
    """

    def __init__(self, modules: int) -> None:
        self._modules = modules
        self._stages: dict[int, _Stage] = {}

    @property
    def frames(self) -> tuple[int, int, int]:
        """Frames of each stage."""
        g0, g1, g2 = (self._frames(stage) for stage in range(STAGES))
        return g0, g1, g2

    def add(self, raw: NDArray[np.uint16], stage: int | None = None) -> int:
        """Take a frame.

        Shapes: ``raw`` all words of all modules, whole modules, in any shape.

        Returns:
            Its stage.

        Raises:
            ValueError: it has another size.
        """
        words = np.ascontiguousarray(raw).reshape(-1)
        pixels = self._modules * MODULE_SHAPE[0] * MODULE_SHAPE[1]
        if words.size != pixels:
            raise ValueError(f"the frame has {words.size} pixels, not {pixels}")
        if stage is None:
            stage = stage_of(words)
        if stage not in self._stages:
            self._stages[stage] = _Stage(pixels)
        self._stages[stage].add(words, _CODES[stage])
        return stage

    def calibrate(
        self,
        old: Calibration,
        rules: Rules,
        conditions: Mapping[int, Conditions] | None = None,
    ) -> Calibration:
        """``old`` with the pedestals of the stages that were measured, and their bad pixels.

        Args:
            old: what is known from before.
            rules: when a pixel is bad.
            conditions: how the frames of a stage were taken, as far as that is known.
        """
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        taken = list(old.conditions)
        pedestal, rms = old.pedestal.copy(), old.pedestal_rms.copy()
        frames = list(old.pedestal_frames)
        shape = (self._modules, *MODULE_SHAPE)
        mask = old.mask & ~np.uint32(BadPixel.NO_GAIN)
        for stage, sums in self._stages.items():
            means, spreads = (values.reshape(shape) for values in sums.moments())
            pedestal[:, stage], rms[:, stage] = means, spreads
            frames[stage] = sums.frames
            taken[stage] = (conditions or {}).get(stage, Conditions())
            mask &= ~np.uint32(0xFF << 8 * stage)
            mask |= _bad(stage, sums, spreads, rules) << np.uint32(8 * stage)
        unknown = ~np.isfinite(old.gain[:, 0])
        mask |= np.where(unknown, np.uint32(BadPixel.NO_GAIN), np.uint32(0))
        g0, g1, g2 = frames
        return replace(
            old,
            pedestal=pedestal,
            pedestal_rms=rms,
            mask=mask,
            pedestal_frames=(g0, g1, g2),
            date=date,
            conditions=(taken[0], taken[1], taken[2]),
        )

    def _frames(self, stage: int) -> int:
        return self._stages[stage].frames if stage in self._stages else 0


def stage_of(words: NDArray[np.uint16]) -> int:
    """The stage of most of the words; one of 1021 is looked at."""
    counts = np.bincount(words[::1021] >> 14, minlength=4)
    return int(np.argmax([counts[code] for code in _CODES]))


def _bad(stage: int, sums: _Stage, rms: NDArray[np.float32], rules: Rules) -> NDArray[np.uint32]:
    """Bits of the pixels that one stage shows to be bad. Shapes: as ``rms``."""
    count = sums.count.reshape(rms.shape)
    mask = np.zeros(rms.shape, np.uint32)
    wrong = sums.frames - count > rules.wrong_share * sums.frames
    mask |= np.where(count < rules.min_frames, np.uint32(BadPixel.UNSEEN), np.uint32(0))
    mask |= np.where(wrong, np.uint32(BadPixel.WRONG_STAGE), np.uint32(0))
    for module, spread in enumerate(rms):
        known = np.isfinite(spread)
        if known.any():
            limit = rules.noise_factor * float(np.median(spread[known]))
            noisy = known & (spread > limit)
            mask[module] |= np.where(noisy, np.uint32(BadPixel.NOISY), np.uint32(0))
    if stage == 0:
        mask |= np.where(rms == 0, np.uint32(BadPixel.FROZEN), np.uint32(0))
    return mask


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the followed pedestal is from the calibrated one, over all good pixels, in ADU."""

    dark_frames: int
    median: float
    largest: float
    """Of a single pixel, without sign."""


class PedestalFollower:
    """A running mean of the G0 pedestal, from dark frames that come now and then.

    An exponential mean: each reading counts 1/window, so it forgets over ``window`` frames.
    Readings of other stages, and those more than ``limit`` rms away from the mean (a cosmic, a
    frame that was not dark), are left out; a real drift is slower than that.

    Shapes: maps (pixels,).
    """

    def __init__(
        self,
        pedestal: NDArray[np.float32],
        rms: NDArray[np.float32],
        window: int,
        limit: float = 8.0,
    ) -> None:
        self._start = np.ascontiguousarray(pedestal, np.float32)
        self.pedestal = self._start.copy()
        self._reach = limit * np.where(np.isfinite(rms) & (rms > 0), rms, np.inf).astype(np.float32)
        self._weight = np.float32(1 / window)
        self._frames = 0

    def add(self, raw: NDArray[np.uint16]) -> None:
        """Take a dark frame."""
        words = raw.reshape(-1)
        for start in range(0, words.size, _BLOCK):
            block = words[start : start + _BLOCK]
            where = slice(start, start + block.size)
            step = block - self.pedestal[where]
            taken = (block < 0x4000) & (np.abs(step) <= self._reach[where])
            self.pedestal[where] += np.where(taken, step * self._weight, 0)
        self._frames += 1

    def drift(self) -> Drift:
        """How far it is by now."""
        known = np.isfinite(self._start)
        moved = (self.pedestal - self._start)[known]
        if not moved.size:
            return Drift(self._frames, 0.0, 0.0)
        return Drift(self._frames, float(np.median(moved)), float(np.abs(moved).max()))


def modules_of(shape: Sequence[int], rows: int = MODULE_SHAPE[0]) -> int | None:
    """Modules in a frame of ``shape`` (bands, rows, cols), if each has ``rows``.

    Returns:
        None if these are not whole modules.
    """
    total = math.prod(shape[:-1])
    if shape[-1] != MODULE_SHAPE[1] or total % rows or not total:
        return None
    return total // rows
