"""``lima2 calibration``: a calibration file from maps that exist already."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import ParamError
from processing.jungfrau.calibration import (
    PER_KEV,
    PER_PHOTON,
    STAGES,
    BadPixel,
    Calibration,
    save_calibration,
)
from processing.kernels.placing import MODULE_SHAPE

_READ_ERRORS = (OSError, LookupError, ValueError, TypeError, RuntimeError)


def main(argv: Sequence[str]) -> int:
    """Make a JUNGFRAU calibration file from pedestal and gain maps."""
    parser = argparse.ArgumentParser(
        prog="lima2 calibration",
        description=main.__doc__,
        epilog="Maps are HDF5 datasets, FILE::DATASET, or NumPy files: (3, 512, 1024) for one "
        "module, (modules, 3, 512, 1024) for several; stages in the order G0, G1, G2.",
    )
    add = parser.add_argument
    add("--output", required=True, type=Path, help="calibration file")
    add("--pedestal", required=True, metavar="MAPS", help="dark levels, ADU")
    add("--rms", default="", metavar="MAPS", help="their rms, ADU; one of G0 alone will do")
    add("--gain", required=True, metavar="MAPS", help="gains")
    add("--units", default=PER_PHOTON, choices=[PER_PHOTON, PER_KEV], help="of the gains")
    add("--energy", type=float, default=0.0, metavar="KEV", help="of the photons of the gains")
    add("--mask", default="", metavar="MAPS", help="([modules,] 512, 1024), 0 = good")
    add("--modules", type=int, nargs="+", default=[], help="ids; default 0, 1...")
    add("--valid-from", default="", metavar="DATE", help="ISO 8601")
    add("--valid-until", default="", metavar="DATE", help="ISO 8601")
    options = parser.parse_args(list(argv))

    pedestal = _maps(options.pedestal, "--pedestal")
    modules = len(pedestal)
    gain = _of_modules(_maps(options.gain, "--gain"), modules, "--gain")
    rms = np.full_like(pedestal, np.nan)
    if options.rms:
        rms[:] = _rms(options.rms, modules)
    ids = tuple(options.modules) or tuple(range(modules))
    if len(set(ids)) != modules or len(ids) != modules:
        raise ParamError(f"{modules} different ids are needed", path="--modules")
    for name in ("valid_from", "valid_until"):
        _check_date(getattr(options, name), f"--{name.replace('_', '-')}")
    unknown = np.where(np.isfinite(gain[:, 0]) & (gain[:, 0] != 0), 0, int(BadPixel.NO_GAIN))
    calibration = Calibration(
        module_ids=ids,
        pedestal=pedestal,
        pedestal_rms=rms,
        gain=gain,
        mask=(_mask(options.mask, modules) | unknown).astype(np.uint32),
        gain_units=options.units,
        gain_energy_kev=options.energy,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        valid_from=options.valid_from,
        valid_until=options.valid_until,
    )
    save_calibration(calibration, options.output)
    bad = np.count_nonzero(calibration.mask)
    print(f"{options.output}: {modules} modules, {bad} pixels masked")
    return 0


def _maps(source: str, where: str) -> NDArray[np.float32]:
    """Shapes: (modules, 3, 512, 1024)."""
    values = _read(source, where)
    if values.ndim == 3:
        values = values[np.newaxis]
    if values.ndim != 4 or values.shape[1:] != (STAGES, *MODULE_SHAPE):
        raise ParamError(
            f"{source} has the shape {values.shape}, maps have ([modules,] {STAGES}, "
            f"{MODULE_SHAPE[0]}, {MODULE_SHAPE[1]})",
            path=where,
        )
    return np.asarray(values, np.float32)


def _rms(source: str, modules: int) -> NDArray[np.float32]:
    """Of all stages, or of G0 alone; what is not given stays unknown.

    Shapes: (modules, 3, 512, 1024).
    """
    values = _read(source, "--rms")
    if values.shape not in (MODULE_SHAPE, (modules, *MODULE_SHAPE)):
        return _of_modules(_maps(source, "--rms"), modules, "--rms")
    rms = np.full((modules, STAGES, *MODULE_SHAPE), np.nan, np.float32)
    rms[:, 0] = values
    return rms


def _mask(source: str, modules: int) -> NDArray[np.uint32]:
    """Shapes: (modules, 512, 1024)."""
    bits = np.zeros((modules, *MODULE_SHAPE), np.uint32)
    if source:
        values = _read(source, "--mask")
        if values.shape not in (MODULE_SHAPE, bits.shape):
            raise ParamError(
                f"{source} has the shape {values.shape}, not {bits.shape}", path="--mask"
            )
        bits[:] = np.where(values != 0, np.uint32(BadPixel.USER), np.uint32(0))
    return bits


def _of_modules(maps: NDArray[np.float32], modules: int, where: str) -> NDArray[np.float32]:
    if len(maps) != modules:
        raise ParamError(f"they are of {len(maps)} modules, pedestals of {modules}", path=where)
    return maps


def _read(source: str, where: str) -> NDArray[Any]:
    import h5py
    import hdf5plugin  # noqa: F401  registers the filters

    name, _, dataset = source.partition("::")
    try:
        if not dataset:
            values: NDArray[Any] = np.load(name)
            return values
        with h5py.File(name, "r") as file:
            return np.asarray(file[dataset][()])
    except _READ_ERRORS as error:
        raise ParamError(f"{source} cannot be read: {error}", path=where) from error


def _check_date(text: str, where: str) -> None:
    try:
        if text:
            datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ParamError(f"{text!r} is no date of ISO 8601", path=where) from error
