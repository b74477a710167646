"""``lima2 calibration``: a calibration file from maps that exist already, and what one holds."""

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
    moment,
    read_calibration,
    save_calibration,
)
from processing.jungfrau.options import add_conditions, asked_conditions, described
from processing.kernels.placing import MODULE_SHAPE

_READ_ERRORS = (OSError, LookupError, ValueError, TypeError, RuntimeError)
_NEEDED = ("output", "pedestal", "gain")


def main(argv: Sequence[str]) -> int:
    """Make a JUNGFRAU calibration file from pedestal and gain maps, or show what is in one."""
    parser = _parser()
    options = parser.parse_args(list(argv))
    given = {
        name: value for name, value in vars(options).items() if value != parser.get_default(name)
    }
    if options.file is not None:
        _refuse_others(given)
        made, name = read_calibration(str(options.file.resolve()), "file"), options.file
    else:
        for needed in _NEEDED:
            if needed not in given:
                raise ParamError(
                    "is needed to make a calibration file; to look at one, name it without any "
                    "option",
                    path=f"--{needed}",
                )
        made, name = _made(options), options.output
        save_calibration(made, options.output)
    print(f"{name}:")
    for line in described(made):
        print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lima2 calibration",
        usage="lima2 calibration FILE\n"
        "       lima2 calibration --output FILE --pedestal MAPS --gain MAPS [options]",
        description=main.__doc__,
        epilog="MAPS are HDF5 datasets, FILE::DATASET, or NumPy files: (3, 512, 1024) for one "
        "module, (modules, 3, 512, 1024) for several; stages in the order G0, G1, G2.",
    )
    add = parser.add_argument
    add("file", nargs="?", type=Path, metavar="FILE", help="calibration file to look at")
    add("--output", type=Path, metavar="FILE", help="calibration file to make, or to replace")
    add("--pedestal", default="", metavar="MAPS", help="dark levels in ADU")
    add(
        "--rms",
        default="",
        metavar="MAPS",
        help="their standard deviation in ADU, of all stages or of G0 alone; default: not known",
    )
    add(
        "--gain",
        default="",
        metavar="MAPS",
        help="gains in the units of --units, negative in G1 and G2",
    )
    add(
        "--units",
        default=PER_PHOTON,
        choices=[PER_PHOTON, PER_KEV],
        help="units of the gains; default %(default)s",
    )
    add(
        "--energy",
        type=float,
        default=0.0,
        metavar="KEV",
        help="energy in keV of the photons of gains in ADU/photon; default: not known",
    )
    add(
        "--mask",
        default="",
        metavar="MAPS",
        help="bad pixels, ([modules,] 512, 1024), 0 = good; default: all are good that have a "
        "gain in G0",
    )
    add(
        "--modules",
        type=int,
        nargs="+",
        default=[],
        metavar="ID",
        help="ids of the modules, in the order of the maps; default 0, 1...",
    )
    add(
        "--valid-from",
        default="",
        metavar="DATE",
        help="it is refused before, ISO 8601, in UTC if there is no zone; default: without limit",
    )
    add(
        "--valid-until",
        default="",
        metavar="DATE",
        help="it is refused afterwards, likewise; default: without limit",
    )
    add_conditions(parser, "As far as it is known")
    return parser


def _refuse_others(given: dict[str, Any]) -> None:
    for name in given:
        if name != "file":
            raise ParamError(
                f"a file is made with --output, and {given['file']} is only shown; leave one of "
                "them out",
                path=f"--{name.replace('_', '-')}",
            )


def _made(options: argparse.Namespace) -> Calibration:
    if options.energy < 0:
        raise ParamError(f"{options.energy:g} keV is not possible", path="--energy")
    if options.energy and options.units == PER_KEV:
        raise ParamError(
            f"gains in {PER_KEV} are of no photon energy; leave the option out", path="--energy"
        )
    start, end = (
        _date(getattr(options, name), f"--{name.replace('_', '-')}")
        for name in ("valid_from", "valid_until")
    )
    if start and end and start >= end:
        raise ParamError(
            f"{options.valid_until} is not after --valid-from, {options.valid_from}",
            path="--valid-until",
        )
    conditions = asked_conditions(options)
    pedestal = _maps(options.pedestal, "--pedestal")
    modules = len(pedestal)
    gain = _of_modules(_maps(options.gain, "--gain"), modules, "--gain")
    rms = np.full_like(pedestal, np.nan)
    if options.rms:
        rms[:] = _rms(options.rms, modules)
    ids = tuple(options.modules) or tuple(range(modules))
    if len(set(ids)) != modules or len(ids) != modules:
        raise ParamError(f"{modules} different ids are needed", path="--modules")
    unknown = np.where(np.isfinite(gain[:, 0]) & (gain[:, 0] != 0), 0, int(BadPixel.NO_GAIN))
    return Calibration(
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
        conditions=(conditions, conditions, conditions),
    )


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


def _date(text: str, where: str) -> datetime.datetime | None:
    try:
        return moment(text) if text else None
    except ValueError as error:
        raise ParamError(f"{text!r} is no date of ISO 8601", path=where) from error
