"""The calibration file: six maps, mask, and what is known about them (version 1).

====================  =================================  ========================================
dataset               shape, type                        content
====================  =================================  ========================================
``pedestal``          (modules, 3, 512, 1024) float32    dark level of G0, G1, G2 in ADU
``pedestal_rms``      same                               its standard deviation in ADU
``gain``              same                               ADU per photon or keV; attribute ``units``
``mask``              (modules, 512, 1024) uint32        0 = good; see `BadPixel`
``module_ids``        (modules,) int64                   as in the packet headers
``pedestal_frames``   (3,) int64                         dark frames behind each stage
====================  =================================  ========================================

Attributes of the file: ``format``, ``version``, ``date``, ``valid_from``, ``valid_until`` (ISO
8601, empty = without limit), ``gain_energy_kev`` (for gains in ADU/photon; 0 = not known).
The groups ``conditions/G0``, ``G1``, ``G2`` tell how the dark frames of each stage were taken:
attributes as in `Conditions`, without those that are not known. Older files have no such groups.
"""

from __future__ import annotations

import datetime
import enum
import os
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import ParamError, StorageError
from processing.jungfrau.conditions import Conditions
from processing.kernels.placing import MODULE_SHAPE

FORMAT = "lima2-jungfrau-calibration"
VERSION = 1
STAGES = 3
CONDITIONS = tuple(f"conditions/G{stage}" for stage in range(STAGES))
"""Groups of the file."""
PER_PHOTON, PER_KEV = "ADU/photon", "ADU/keV"

READ_ERRORS = (OSError, ValueError, LookupError, TypeError, RuntimeError, AttributeError)
"""What the library raises at files that are not what they should be."""


class BadPixel(enum.IntFlag):
    """Why a pixel is masked.

    The first four stand in bits 0-7 for G0, 8-15 for G1, 16-23 for G2: what is bad in G1 or G2
    only has no value in that stage, what is bad in G0 has none at all.
    """

    UNSEEN = 1
    """Too few readings in a gain stage."""
    WRONG_STAGE = 2
    """Too many readings of another stage."""
    NOISY = 4
    FROZEN = 8
    """Always the same value in G0."""
    NO_GAIN = 1 << 24
    """The gain of G0 is not known."""
    USER = 1 << 25
    """Set by hand; never cleared."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The maps of some modules; shapes and types as in the file."""

    module_ids: tuple[int, ...]
    pedestal: NDArray[np.float32]
    pedestal_rms: NDArray[np.float32]
    gain: NDArray[np.float32]
    mask: NDArray[np.uint32]
    pedestal_frames: tuple[int, int, int] = (0, 0, 0)
    gain_units: str = PER_PHOTON
    gain_energy_kev: float = 0.0
    date: str = ""
    valid_from: str = ""
    valid_until: str = ""
    conditions: tuple[Conditions, Conditions, Conditions] = (
        Conditions(),
        Conditions(),
        Conditions(),
    )
    """How the pedestals of each stage were taken."""

    def __len__(self) -> int:
        return len(self.module_ids)

    def hidden(self) -> NDArray[np.bool_]:
        """Where a stage of a pixel must not be used.

        Shapes: (modules, 3, 512, 1024).
        """
        always = self.mask & np.uint32(0xFF | BadPixel.NO_GAIN | BadPixel.USER) != 0
        stages = [always, *(always | (self.mask & np.uint32(0xFF << 8 * n) != 0) for n in (1, 2))]
        return np.stack(stages, axis=1)

    def gain_for(self, energy_kev: float, where: str) -> NDArray[np.float32]:
        """Gains in ADU per photon of ``energy_kev``, 0 = as they are.

        Raises:
            ParamError: the energy does not go with the file.
        """
        if self.gain_units == PER_KEV:
            if not energy_kev:
                raise ParamError(
                    "gains of the calibration are per keV; give the photon energy", path=where
                )
            return (self.gain * energy_kev).astype(np.float32)
        if not energy_kev or energy_kev == self.gain_energy_kev:
            return self.gain
        if not self.gain_energy_kev:
            raise ParamError(
                "gains of the calibration are per photon, and it does not say of which energy; "
                "give 0 to take them as they are",
                path=where,
            )
        return (self.gain * (energy_kev / self.gain_energy_kev)).astype(np.float32)

    def positions(self, module_ids: tuple[int, ...], where: str) -> list[int]:
        """Where modules stand in the maps.

        Raises:
            ParamError: there is no calibration of one.
        """
        unknown = [one for one in module_ids if one not in self.module_ids]
        if unknown:
            raise ParamError(
                f"module {unknown[0]} has no calibration; the file has those of modules "
                f"{', '.join(map(str, self.module_ids))}",
                path=where,
            )
        return [self.module_ids.index(one) for one in module_ids]

    def of_modules(self, module_ids: tuple[int, ...], where: str) -> Calibration:
        """That of some modules only, in this order.

        Raises:
            ParamError: there is no calibration of one.
        """
        if module_ids == self.module_ids:
            return self
        chosen = self.positions(module_ids, where)
        return replace(
            self,
            module_ids=module_ids,
            pedestal=self.pedestal[chosen],
            pedestal_rms=self.pedestal_rms[chosen],
            gain=self.gain[chosen],
            mask=self.mask[chosen],
        )


def blank(module_ids: tuple[int, ...]) -> Calibration:
    """A calibration in which nothing is known yet: NaN everywhere."""
    shape = (len(module_ids), STAGES, *MODULE_SHAPE)
    unknown = np.full(shape, np.nan, np.float32)
    mask = np.zeros((len(module_ids), *MODULE_SHAPE), np.uint32)
    return Calibration(module_ids, unknown, unknown, unknown, mask)


def save_calibration(calibration: Calibration, file: Path) -> None:
    """Write the file; it appears at once, in the place of an older one.

    Raises:
        StorageError: it cannot be written.
    """
    import h5py

    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(".part", f".{file.name}.", file.parent)
        os.close(handle)
        with h5py.File(temporary, "w") as target:
            target.attrs["format"] = FORMAT
            target.attrs["version"] = VERSION
            for name in ("date", "valid_from", "valid_until", "gain_energy_kev"):
                target.attrs[name] = getattr(calibration, name)
            for name in ("pedestal", "pedestal_rms", "gain", "mask"):
                values = getattr(calibration, name)
                target[name] = values  # floats hardly compress, and Prepare waits for them
            target["pedestal"].attrs["units"] = target["pedestal_rms"].attrs["units"] = "ADU"
            target["gain"].attrs["units"] = calibration.gain_units
            target["module_ids"] = np.array(calibration.module_ids, np.int64)
            target["pedestal_frames"] = np.array(calibration.pedestal_frames, np.int64)
            for group, stage in zip(CONDITIONS, calibration.conditions, strict=True):
                target.create_group(group).attrs.update(stage.to_attributes())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except OSError as error:
        raise StorageError(
            f"the calibration {file} cannot be written: {error}", file=str(file)
        ) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def read_calibration(name: str, where: str) -> Calibration:
    """Read a file as it is.

    Raises:
        ParamError: there is none, or it is no calibration of this version; the path is ``where``.
    """
    if not os.path.isabs(name):
        raise ParamError(
            f"{name!r} must be an absolute path, as servers have no folder", path=where
        )
    if not os.path.isfile(name):
        raise ParamError(f"there is no file {name} on this computer", path=where)
    try:
        return _cached(name, os.stat(name).st_mtime_ns)
    except READ_ERRORS as error:
        raise ParamError(f"{name} is no usable calibration: {error}", path=where) from error


def load_calibration(name: str, where: str, now: datetime.datetime | None = None) -> Calibration:
    """Read a file to convert frames with it.

    Raises:
        ParamError: as `read_calibration`; a map is missing, or it is not valid today.
    """
    calibration = read_calibration(name, where)
    for map_name, maps in (("pedestal", calibration.pedestal), ("gain", calibration.gain)):
        for stage in range(STAGES):
            known = np.isfinite(maps[:, stage]).any(axis=(1, 2))
            if not known.all():
                module = calibration.module_ids[int(np.argmin(known))]
                raise ParamError(
                    f"{name} lacks the {map_name} map of stage G{stage} of module {module}; "
                    + ("take dark frames in this stage" if map_name == "pedestal" else "add it"),
                    path=where,
                )
    today = now or datetime.datetime.now(datetime.UTC)
    if calibration.valid_from and today < moment(calibration.valid_from):
        raise ParamError(f"{name} is valid from {calibration.valid_from} on only", path=where)
    if calibration.valid_until and today > moment(calibration.valid_until):
        raise ParamError(
            f"{name} was valid until {calibration.valid_until}; take a new one", path=where
        )
    return calibration


@lru_cache(maxsize=2)
def _cached(name: str, changed_ns: int) -> Calibration:
    """Read a file; ``changed_ns`` makes a changed one another entry of the cache."""
    import h5py
    import hdf5plugin  # noqa: F401  registers the filters

    with h5py.File(name, "r") as file:
        calibration = _read(file)
    for maps in (calibration.pedestal, calibration.pedestal_rms, calibration.gain):
        maps.setflags(write=False)
    calibration.mask.setflags(write=False)
    return calibration


def _read(file: Any) -> Calibration:
    if file.attrs.get("format") != FORMAT:
        raise ValueError(f"its attribute format is not {FORMAT}")
    if int(file.attrs["version"]) != VERSION:
        raise ValueError(f"it has version {file.attrs['version']}, known is {VERSION}")
    names = ("pedestal", "pedestal_rms", "gain", "mask", "module_ids", "pedestal_frames")
    missing = [name for name in names if name not in file]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    ids = tuple(int(one) for one in file["module_ids"][:])
    if not ids or len(set(ids)) != len(ids):
        raise ValueError(f"module_ids must name each module once, not {ids}")
    maps_shape: tuple[int, ...] = (len(ids), STAGES, *MODULE_SHAPE)
    shapes = dict.fromkeys(("pedestal", "pedestal_rms", "gain"), maps_shape)
    shapes["mask"] = (len(ids), *MODULE_SHAPE)
    for name, shape in shapes.items():
        if file[name].shape != shape:
            raise ValueError(f"{name} has the shape {file[name].shape}, not {shape}")
    units = str(file["gain"].attrs.get("units", ""))
    if units not in (PER_PHOTON, PER_KEV):
        raise ValueError(f"the units of gain are {units!r}, not {PER_PHOTON} or {PER_KEV}")
    texts = {key: str(file.attrs.get(key, "")) for key in ("date", "valid_from", "valid_until")}
    for text in texts.values():
        if text:
            moment(text)  # a wrong date shows here, with the name of the file
    g0, g1, g2 = (int(count) for count in file["pedestal_frames"][:])
    told = [file[name].attrs if name in file else {} for name in CONDITIONS]
    of_g0, of_g1, of_g2 = (Conditions.of_attributes(attributes) for attributes in told)
    return Calibration(
        module_ids=ids,
        pedestal=np.asarray(file["pedestal"][()], np.float32),
        pedestal_rms=np.asarray(file["pedestal_rms"][()], np.float32),
        gain=np.asarray(file["gain"][()], np.float32),
        mask=np.asarray(file["mask"][()], np.uint32),
        pedestal_frames=(g0, g1, g2),
        gain_units=units,
        gain_energy_kev=float(file.attrs.get("gain_energy_kev", 0.0)),
        date=texts["date"],
        valid_from=texts["valid_from"],
        valid_until=texts["valid_until"],
        conditions=(of_g0, of_g1, of_g2),
    )


def moment(text: str) -> datetime.datetime:
    """A date of the file; without a zone it is UTC.

    Raises:
        ValueError: it is none.
    """
    found = datetime.datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
