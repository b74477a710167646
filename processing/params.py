"""Groups of parameters that pipelines have in common (contract 02, section 3)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lima2_core.camera.params import BinningParams, RectParams
from lima2_core.data.geometry import Roi
from lima2_core.errors import ParamError
from lima2_core.schema import ParamsModel, quantity
from processing.kernels.arcs import Arc


class FifoParams(ParamsModel):
    """The queue between the camera and the pipeline."""

    nb_fifo_frames: int = quantity("frames", default=100, ge=1)
    """Frames that may wait; a simulated camera waits when it is full, a real one cannot."""


class BufferParams(ParamsModel):
    """How much is kept to be looked at, and first sizes of the record buffers, which grow."""

    nb_frames_buffer: int = quantity("frames", default=100, ge=1)
    """Processed frames kept for getFrame."""
    nb_input_frames_buffer: int = quantity("frames", default=100, ge=1)
    """Input frames kept for getInputFrame."""
    nb_roi_statistics_buffer: int = quantity("frames", default=100, ge=1)
    nb_roi_profiles_buffer: int = quantity("frames", default=100, ge=1)
    nb_frame_idx_buffer: int = quantity("frames", default=100, ge=1)


class CalibrationFileParams(ParamsModel):
    """An image file: HDF5 (``file.h5::/dataset``, or its first one that fits), EDF, TIFF, NPY."""

    enabled: bool = False
    path: str = ""
    """Absolute path on the computer of the receiver."""


class AccumulationParams(ParamsModel):
    """Sums of consecutive frames of each receiver."""

    enabled: bool = False
    nb_frames: int = quantity("frames", default=1, ge=1)
    """Frames summed into one."""

    @property
    def depth(self) -> int:
        """Frames summed into one; 1 if it is off."""
        return self.nb_frames if self.enabled else 1


class CenterParams(ParamsModel):
    """A position in the image, in pixels."""

    x: float = 0.0
    y: float = 0.0


class ArcRoiParams(ParamsModel):
    """A part of a ring. Angles in degrees, from the x axis towards the y axis (downwards)."""

    center: CenterParams = CenterParams()
    r1: float = quantity("pixel", default=0.0, ge=0)
    """Inner radius."""
    r2: float = quantity("pixel", default=0.0, ge=0)
    """Outer radius."""
    a1: float = quantity("deg", default=0.0)
    """First angle."""
    a2: float = quantity("deg", default=360.0)
    """Last angle, not below the first."""

    def arc(self) -> Arc:
        return Arc(self.center.x, self.center.y, self.r1, self.r2, self.a1, self.a2)


class StatisticsParams(ParamsModel):
    """Minimum, maximum, mean, standard deviation and sum of regions of processed frames.

    Regions are in pixels of whole frames, also where each receiver has a part of them.
    """

    enabled: bool = False
    rect_rois: tuple[RectParams, ...] = ()
    arc_rois: tuple[ArcRoiParams, ...] = ()


class ProfilesParams(ParamsModel):
    """The same for every column (horizontal) or row (vertical) of regions."""

    enabled: bool = False
    rois: tuple[RectParams, ...] = ()
    directions: tuple[Literal["horizontal", "vertical"], ...] = ()


class CountrateProtectionParams(ParamsModel):
    """What happens when a pixel counts faster than the detector should bear."""

    enabled: bool = False
    command: str = ""
    """Program to run, once per acquisition; only one that the receiver's property
    ``allowed_commands`` names. Empty: none."""
    args: tuple[str, ...] = ()
    """Its arguments."""
    max_countrate: int = quantity("counts/s", default=100_000, gt=0)
    """Highest rate of a pixel that is allowed; of photons, where words are converted to them."""
    pixel_capacity_override: tuple[dict[str, Any], ...] = ()
    """Accepted for the sake of clients, and not used: its meaning is not published."""
    abort_on_protection: bool = True
    """End the acquisition with an error."""
    ignore_max_value: bool = False
    """Leave out pixels with the largest value of their type, which often marks bad ones; of
    photons, saturated ones, which otherwise are above any limit."""


class SparseParams(ParamsModel):
    """What is kept of a frame in the files of ``saving_sparse``."""

    threshold: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Smallest value of a pixel that is a hit, in the unit of the frames."""
    by_frame: bool = True
    """Whether files have the hits of each frame as a row of their own too, as some readers want
    them. These rows are not compressed."""


class GeometryParams(ParamsModel):
    """Binning, then region (in binned pixels), then flip, then rotation of every frame."""

    binning: BinningParams = BinningParams()
    roi: RectParams = RectParams()
    """Dimensions 0, 0 = the whole image."""
    flip: Literal["none", "left_right", "up_down"] = "none"
    rotation: Literal["none", "90", "180", "270"] = "none"
    """Degrees, counter-clockwise."""

    @property
    def quarter_turns(self) -> int:
        return 0 if self.rotation == "none" else int(self.rotation) // 90


class TapsParams(ParamsModel):
    """Which frames are kept to be looked at; how many say the buffers."""

    input_sampling: int = quantity("frames", default=1, ge=1)
    """One of so many input frames."""
    processed_sampling: int = quantity("frames", default=1, ge=1)
    """One of so many processed frames."""


def region(params: RectParams, rows: int, cols: int, path: str) -> Roi:
    """A rectangle of the parameters, which must touch an image of ``rows`` x ``cols``.

    Raises:
        ParamError: it is empty, or wholly outside.
    """
    roi = Roi(params.topleft.y, params.topleft.x, params.dimensions.y, params.dimensions.x)
    if roi.rows < 1 or roi.cols < 1:
        raise ParamError("the region is empty; give it a width and a height", path=path)
    if roi.row >= rows or roi.col >= cols:
        raise ParamError(
            f"the region begins at x={roi.col}, y={roi.row}, outside the image of "
            f"{cols} x {rows} (x, y)",
            path=path,
        )
    return roi
