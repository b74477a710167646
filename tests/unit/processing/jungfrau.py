"""Calibrations, raw words, and the photons that they must give, worked out another way."""

import numpy as np
import pytest

from processing.jungfrau.calibration import Calibration, save_calibration
from processing.jungfrau.layout import Layout, LayoutParams
from processing.kernels.opencl.devices import search

SHAPE = (512, 1024)
CODES = np.array([0, 1, 3], np.uint16)


def opencl_device():
    """A device that can build kernels; where there is none, the test is skipped and says why."""
    found = search()
    device = found.best()
    if device is None:
        pytest.skip(found.reason())
    return device


def calibration(modules=1, **changed):
    """Maps as a real module has them, another number in each pixel."""
    random = np.random.default_rng(7)
    shape = (modules, *SHAPE)
    pedestal = np.stack(
        [random.uniform(low, low + 1000, shape) for low in (2000, 13000, 13600)], axis=1
    )
    gain = np.stack(
        [level * random.uniform(0.9, 1.1, shape) for level in (500.0, -18.0, -1.4)], axis=1
    )
    maps = {
        "module_ids": tuple(100 + n for n in range(modules)),
        "pedestal": pedestal.astype(np.float32),
        "pedestal_rms": np.full(pedestal.shape, 12, np.float32),
        "gain": gain.astype(np.float32),
        "mask": np.zeros(shape, np.uint32),
        "gain_energy_kev": 12.4,
    }
    return Calibration(**{**maps, **changed})


def saved(folder, made, name="calibration.h5"):
    save_calibration(made, folder / name)
    return str(folder / name)


def words(modules=1, rows=512, seed=1, switched=0.01):
    """Raw words of all stages, with a few saturated and missing ones.

    Shapes: (1, modules * rows, 1024).
    """
    random = np.random.default_rng(seed)
    shape = (1, modules * rows, 1024)
    stage = np.where(random.random(shape) < switched, random.integers(1, 3, shape), 0)
    adc = np.where(
        stage == 0, random.integers(1900, 16000, shape), random.integers(1, 13500, shape)
    )
    raw = (CODES[stage] << 14 | adc).astype(np.uint16)
    flat = raw.reshape(-1)
    flat[random.integers(0, flat.size, 40)] = 0xC000
    flat[random.integers(0, flat.size, 40)] = 0xFFFF
    flat[random.integers(0, flat.size, 40)] = 0x8000 + 77
    return raw


def photons(raw, made):
    """Photons in float64; NaN where there is no value, infinity where saturated.

    Shapes: as ``raw``, whole modules.
    """
    planes = raw.reshape(-1, *SHAPE)
    adc = (planes % 16384).astype(np.float64)
    code = planes // 16384
    values = [(adc - made.pedestal[:, n]) / made.gain[:, n].astype(np.float64) for n in range(3)]
    result = np.select([code == 0, code == 1, code == 3], values, np.nan)
    result[planes == 0xC000] = np.inf
    result[planes == 0xFFFF] = np.nan
    result[made.mask != 0] = np.nan
    return result.reshape(raw.shape)


def flat(maps):
    """(modules, 3, 512, 1024) as the kernels take it."""
    return np.ascontiguousarray(maps.swapaxes(0, 1)).reshape(3, -1)


def layout(*modules, **changed):
    """A layout of (row, col, rotation)."""
    places = [{"row": row, "col": col, "rotation": turn} for row, col, turn in modules]
    return Layout(LayoutParams.from_tree({"modules": places, **changed}))
