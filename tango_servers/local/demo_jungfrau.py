"""The demonstration with a JUNGFRAU: raw words over UDP, photons in the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core import registry
from lima2_core.errors import Lima2Error, ParamError
from tango_servers.local.demo_plan import Plan
from tango_servers.local.processes import free_udp_addresses

JUNGFRAU_FRAMES = 100
JUNGFRAU_EXPOSURE_S = 0.02
_RECEIVERS = 2
_CODES = (0, 1, 3)
"""Gain codes of the stages."""
_SATURATED_WORD, _SATURATED, _NO_VALUE = 0xC000, 32767, -32768
_REFERENCE_FRAMES = slice(10, 14)
"""Of the raw frames, those of which the file of test data has the photons."""
_TOLERANCE = 0.5 + 0.001
"""Photons: our rounding, and what the reference may be off."""
_SHAPE = (512, 1024)


@dataclass(frozen=True, slots=True)
class _Sample:
    """Frames of one module, what they were made with, and what must come out.

    Shapes: ``raw`` and ``photons`` (frames, 512, 1024); ``pedestal`` and ``gain`` (3, 512, 1024);
    ``known`` as ``raw``: where the photons can be told.
    """

    title: str
    name: str
    raw: NDArray[np.uint16]
    pedestal: NDArray[np.float32]
    gain: NDArray[np.float32]
    photons: NDArray[np.float32]
    known: NDArray[np.bool_]


def jungfrau(
    folder: Path, source: Path | None, nb_frames: int | None, expo_time_s: float | None
) -> Plan:
    """Frames of an emulated JUNGFRAU of one module, converted to photons by two receivers.

    Args:
        folder: takes the images to send, and the calibration.
        source: a file with real frames, their maps and their photons; None draws some.
        nb_frames: None for `JUNGFRAU_FRAMES`.
        expo_time_s: None for `JUNGFRAU_EXPOSURE_S`.

    Raises:
        ParamError: there is no such file, or it has something else in it.
    """
    sample = _drawn() if source is None else _real(source)
    images, calibration = folder / "jungfrau_raw.h5", folder / "jungfrau_calibration.h5"
    _write(images, sample, calibration)
    nb_frames = JUNGFRAU_FRAMES if nb_frames is None else nb_frames
    return Plan(
        title=f"{nb_frames} frames of {sample.title}, over UDP to two receivers, as photons",
        deployment="jungfrau_2",
        nb_frames=nb_frames,
        expo_time_s=JUNGFRAU_EXPOSURE_S if expo_time_s is None else expo_time_s,
        shape=(1, *_SHAPE),
        dtype=np.dtype(np.int16),
        detector={"emulator": {"images": str(images)}},
        reference=_Photons(sample),
        processing={"photons": {"enabled": True, "calibration_path": str(calibration)}},
        properties={"udp_addresses": free_udp_addresses(_RECEIVERS, 1)},
    )


def find_sample(folder: str | None) -> Path | None:
    """The file of real frames in the folder of test data, if it is there."""
    path = Path(folder or ".") / "jungfrau_module.h5"
    return path if folder and path.is_file() else None


class _Photons:
    """What every pixel must be, from the reference alone."""

    def __init__(self, sample: _Sample) -> None:
        self.name = sample.name
        self._sample = sample

    def frame(self, idx: int) -> NDArray[Any]:
        """Photons of frame ``idx``, rounded."""
        number = idx % len(self._sample.raw)
        rounded: NDArray[Any] = np.rint(self._sample.photons[number]).astype(np.int16)[np.newaxis]
        return rounded

    def agrees(self, idx: int, pixels: NDArray[Any]) -> bool:
        """Whether the pixels of frame ``idx`` are its photons."""
        sample, number = self._sample, idx % len(self._sample.raw)
        image = pixels.reshape(_SHAPE).astype(np.float64)
        saturated = sample.raw[number] == _SATURATED_WORD
        where = sample.known[number] & ~saturated
        error = np.abs(image - sample.photons[number])[where]
        return bool((image[saturated] == _SATURATED).all() and (error <= _TOLERANCE).all())

    def measured(self, pixels: NDArray[Any]) -> NDArray[np.bool_]:
        """Neither saturated nor without value."""
        marked: NDArray[np.bool_] = (pixels == _SATURATED) | (pixels == _NO_VALUE)
        return ~marked


def _real(path: Path) -> _Sample:
    import h5py
    import hdf5plugin  # noqa: F401  registers the compression filters

    try:
        with h5py.File(path, "r") as file:
            raw = file["raw"][_REFERENCE_FRAMES]
            maps = {name: np.asarray(file[name][()], np.float32) for name in ("pedestal", "gain")}
            seen, photons = file["gain_observations"][()] > 0, file["photons"][()]
    except (OSError, KeyError) as error:
        raise ParamError(
            f"{path} has no frames of a JUNGFRAU with their maps and photons: {error}",
            path="--jungfrau",
        ) from error
    stage = np.array([0, 1, 0, 2])[raw >> 14]
    known = np.take_along_axis(seen[np.newaxis], stage[:, np.newaxis], axis=1)[:, 0]
    return _Sample(
        title="a real JUNGFRAU module",
        name="the photons of the reference",
        raw=raw,
        photons=photons,
        known=known,
        **maps,
    )


def _drawn() -> _Sample:
    """Whole photons around a beam centre, and the words that a module makes of them."""
    random = np.random.default_rng(1)
    levels, gains = (2500.0, 14000.0, 14500.0), (400.0, -15.0, -1.2)
    pedestal = np.stack([random.normal(level, 100, _SHAPE) for level in levels])
    gain = np.stack([level * random.uniform(0.95, 1.05, _SHAPE) for level in gains])
    row, col = np.indices(_SHAPE)
    radius = np.hypot(row - 256, col - 512)
    mean = 4000 * np.exp(-((radius / 12) ** 2)) + 6 * np.exp(-(((radius - 180) / 60) ** 2))
    photons = random.poisson(mean, (4, *_SHAPE)).astype(np.float32)
    stage = np.digitize(photons, (30, 800))
    adc = np.rint(
        np.take_along_axis(pedestal[np.newaxis], stage[:, np.newaxis], axis=1)[:, 0]
        + photons * np.take_along_axis(gain[np.newaxis], stage[:, np.newaxis], axis=1)[:, 0]
    )
    words = (np.array(_CODES)[stage] << 14) | np.clip(adc, 1, 16383).astype(np.int64)
    return _Sample(
        title="a drawn JUNGFRAU module",
        name="the photons that were drawn",
        raw=words.astype(np.uint16),
        pedestal=pedestal.astype(np.float32),
        gain=gain.astype(np.float32),
        photons=photons,
        known=(adc >= 1) & (adc <= 16383),
    )


def _write(images: Path, sample: _Sample, calibration: Path) -> None:
    """Frames for the emulator, and the calibration as ``lima2 calibration`` makes it."""
    import h5py

    with h5py.File(images, "w") as file:
        file["raw"] = sample.raw
        file["pedestal"] = sample.pedestal
        file["gain"] = sample.gain
    command = registry.load(registry.COMMANDS, "calibration")
    words = {"--pedestal": f"{images}::pedestal", "--gain": f"{images}::gain"}
    code = command(
        [
            "--output",
            str(calibration),
            *(word for pair in words.items() for word in pair),
        ]
    )
    if code:
        raise Lima2Error(f"the calibration {calibration} could not be made")
