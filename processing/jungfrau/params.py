"""What a user may ask of the JUNGFRAU steps of a pipeline."""

from __future__ import annotations

from typing import Literal

from lima2_core.schema import ParamsModel, quantity


class FollowParams(ParamsModel):
    """Follow the G0 pedestal with dark frames taken during the run."""

    enabled: bool = False
    dark_every: int = quantity("frames", default=100, ge=2)
    """One of so many frames is taken without beam."""
    dark_first: int = quantity("frames", default=0, ge=0)
    """Index of the first of them."""
    window: int = quantity("frames", default=100, ge=2)
    """Dark frames over which the running mean forgets."""


class PhotonsParams(ParamsModel):
    """JUNGFRAU words to photons, modules to an image: the first of all steps."""

    enabled: bool = False
    calibration_path: str = ""
    """Calibration file on the computer of the receiver, absolute path."""
    energy_kev: float = quantity("keV", default=0.0, ge=0)
    """Photon energy; 0: the one for which the gains of the file are, if they are per photon. With
    gains per keV, 1 gives keV instead of photons."""
    output: Literal["int16", "int32", "float32"] = "int16"
    """Integers are rounded to the nearest, half to even."""
    no_value: Literal["mark", "zero"] = "mark"
    """What masked and missing pixels read: the smallest integer or NaN, or 0. Saturated pixels
    always read the largest integer or infinity."""
    device: Literal["auto", "gpu", "cpu", "numpy"] = "auto"
    """Where it is computed: gpu and cpu by OpenCL; auto takes the first of the three that works."""
    maps_16bit: bool = False
    """Maps of 16 bits: a third less memory to move per frame; off by up to 0.1 photon in G2."""
    layout_path: str = ""
    """Layout file of all modules of the detector, also if each receiver has some of them; absolute
    path; empty: modules stay as they come."""
    double_pixels: Literal["leave", "split", "mask"] = "leave"
    """Pixels of double size at chip borders: as they are, shared with the gap pixels that they
    cover (needs a layout with a chip gap of 2), or without value."""
    modules: tuple[int, ...] = ()
    """Ids of the modules in the frames, in order; empty: those of the calibration file."""
    module_rows: int = quantity("pixel", default=0, ge=0, le=512, multiple_of=8)
    """Rows of each module in the frames, around its centre; 0: as many as the detector reads out,
    all where that is not known."""
    follow: FollowParams = FollowParams()


class PedestalParams(ParamsModel):
    """Make pedestals from the frames of this run, which are dark and of one or more gain stages."""

    enabled: bool = False
    path: str = ""
    """Calibration file to write, absolute path; stages not seen in this run stay as they are."""
    gain_path: str = ""
    """Calibration file whose gains and module ids are taken over, if the other does not exist."""
    min_frames: int = quantity("frames", default=10, ge=2)
    """Good readings that a pixel needs in a stage."""
    wrong_share: float = quantity("", default=0.01, ge=0, le=1)
    """A pixel is bad if a larger share of its readings is of another stage."""
    noise_factor: float = quantity("", default=5.0, gt=1)
    """A pixel is bad if its rms is above so many times the median of its module and stage."""
