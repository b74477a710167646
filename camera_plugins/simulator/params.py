"""What a user may ask of the simulated detector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lima2_core.camera.dispatch import DispatchMode
from lima2_core.camera.params import AcquisitionParams
from lima2_core.schema import ParamsModel, quantity

PixelType = Literal[
    "gray8", "gray8s", "gray16", "gray16s", "gray32", "gray32s", "gray32f", "gray64f"
]

# Far beyond any use; so that no product of them leaves the range of a float.
_POSITION = {"ge": -1e6, "le": 1e6}
_AMPLITUDE = {"ge": -1e12, "le": 1e12}


class PeakParams(ParamsModel):
    """One Gaussian peak; positions in pixels of the whole detector, the first centre is 0, 0."""

    x0: float = quantity("pixels", default=1024.0, **_POSITION)
    """Position along a row."""
    y0: float = quantity("pixels", default=1024.0, **_POSITION)
    """Position down the rows."""
    fwhm: float = quantity("pixels", default=128.0, gt=0, le=1e6)
    """Full width at half maximum."""
    max: float = quantity("ADU", default=100.0, **_AMPLITUDE)
    """Height."""


class GaussParams(ParamsModel):
    """A sum of Gaussian peaks."""

    peaks: tuple[PeakParams, ...] = Field(default=(PeakParams(),), max_length=1000)
    grow_factor: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Frame g is 1 + grow_factor * (g modulo det.nb_prefetch_frames) times as bright as frame 0."""


class DiffractionParams(ParamsModel):
    """The far field of a square aperture, lit by a source that may move."""

    x0: float = quantity("pixels", default=1024.0, **_POSITION)
    """Centre along a row, for a source on the axis."""
    y0: float = quantity("pixels", default=1024.0, **_POSITION)
    """Centre down the rows, for a source on the axis."""
    source_pos_x: float = quantity("pixels", default=5.0, **_POSITION)
    """Shift along a row, by the position of the source."""
    source_pos_y: float = quantity("pixels", default=5.0, **_POSITION)
    """Shift down the rows, by the position of the source."""
    source_speed_x: float = quantity("pixels/frame", default=0.0, **_POSITION)
    """Movement along a row from frame to frame, until the images repeat."""
    source_speed_y: float = quantity("pixels/frame", default=0.0, **_POSITION)
    """Movement down the rows from frame to frame, until the images repeat."""


class GeneratorParams(ParamsModel):
    """The images to draw."""

    type: Literal["gauss", "diffraction", "spiral"] = "gauss"
    gauss: GaussParams = GaussParams()
    diffraction: DiffractionParams = DiffractionParams()
    pixel_type: PixelType = "gray8"
    """Values outside the range of the type are clipped."""
    nb_channels: int = Field(default=1, ge=1, le=1024)
    """Bands of an image; band b of n is 1 - b / n times as bright as the first."""


class SimulatorDetParams(ParamsModel):
    """The simulated detector."""

    generator: GeneratorParams = GeneratorParams()
    nb_prefetch_frames: int = quantity("frames", default=16, ge=1)
    """Different images, drawn beforehand; frame g shows image g modulo this number."""
    dropped_frame_idx: int = Field(default=0, ge=0)
    """This frame is lost in the detector; 0 = none."""
    failed_frame_idx: int = Field(default=0, ge=0)
    """The detector fails at this frame; 0 = never."""
    dead_after_frames: int = quantity("frames", default=0, ge=0)
    """The detector dies once it has exposed so many; 0 = never."""
    dispatch_mode: DispatchMode = "round_robin"
    """How frames are dealt out to several receivers; partial_frame: each gets a strip of all."""


class SimulatorParams(AcquisitionParams):
    """Acquisition parameters of the simulated detector."""

    det: SimulatorDetParams = SimulatorDetParams()
