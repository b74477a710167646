"""What every camera understands: the groups of the acquisition parameters beside ``det``.

Keys, values and units are those of the existing clients (contract 02, section 1); times are in
microseconds there. A camera derives from `AcquisitionParams` and adds its ``det`` group.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from lima2_core.schema import ParamsModel, quantity

TriggerMode = Literal["internal", "software", "external", "gate"]


class PointParams(ParamsModel):
    """A position, or a size; x along a row, y down the rows."""

    x: int = Field(default=0, ge=0)
    y: int = Field(default=0, ge=0)


class BinningParams(ParamsModel):
    """Pixels added up into one, along a row (x) and down the rows (y)."""

    x: int = Field(default=1, ge=1)
    y: int = Field(default=1, ge=1)


class RectParams(ParamsModel):
    """A rectangle of pixels; dimensions 0, 0 mean the full frame where that makes sense."""

    topleft: PointParams = PointParams()
    dimensions: PointParams = PointParams()


class AcqParams(ParamsModel):
    """How many frames, how long, and what starts them."""

    nb_frames: int = quantity("frames", default=1, ge=0)
    """Frames of the whole system; 0 = endless, until Stop."""
    expo_time: int = quantity("us", default=100_000, gt=0)
    """Integration time of one frame."""
    latency_time: int = quantity("us", default=10, ge=0)
    """From the end of one exposure to the start of the next."""
    trigger_mode: TriggerMode = "internal"
    """What starts an exposure."""
    nb_frames_per_trigger: int = quantity("frames", default=1, ge=1)
    """Frames taken for each software or external trigger."""
    acq_mode: Literal["normal"] = "normal"

    @property
    def expo_time_s(self) -> float:
        return self.expo_time * 1e-6

    @property
    def period_s(self) -> float:
        """Start-to-start time of two frames of one sequence."""
        return (self.expo_time + self.latency_time) * 1e-6


class ImageParams(ParamsModel):
    """Operations on the image in the detector: binning first, then ROI, then flip."""

    binning: BinningParams = BinningParams()
    roi: RectParams = RectParams()
    flip: Literal["none", "left_right", "up_down"] = "none"


IMAGE_OPERATIONS: Final = tuple(ImageParams.model_fields)
"""What detectors may be able to do with an image."""


class ShutterParams(ParamsModel):
    """The shutter."""

    mode: Literal["manual"] = "manual"


class DetectorAccumulationParams(ParamsModel):
    """Accumulation inside the detector; 1 = none."""

    nb_frames: int = quantity("frames", default=1, ge=1)
    expo_time: int = quantity("us", default=1000, gt=0)
    saturated_threshold: int = quantity("counts", default=0, ge=0)


class VideoParams(ParamsModel):
    """Live view."""

    auto_exposure_mode: Literal["off"] = "off"


class AlignmentParams(ParamsModel):
    """Alignment of transferred images."""

    col_alignment: int = quantity("bytes", default=1, ge=1)
    row_alignment: int = quantity("bytes", default=8, ge=1)
    header: int = quantity("bytes", default=0, ge=0)
    footer: int = quantity("bytes", default=0, ge=0)


class TransferSliceParams(ParamsModel):
    """Which of the exposed frames are transferred."""

    start: int = quantity("frames", default=0, ge=0)
    stride: int = quantity("frames", default=1, ge=1)


class TransferParams(ParamsModel):
    """How images leave the detector."""

    alignment: AlignmentParams = AlignmentParams()
    slice: TransferSliceParams = TransferSliceParams()


class AcquisitionParams(ParamsModel):
    """Base of the acquisition parameters of a camera, which adds the group ``det``."""

    acq: AcqParams = AcqParams()
    img: ImageParams = ImageParams()
    shut: ShutterParams = ShutterParams()
    accu: DetectorAccumulationParams = DetectorAccumulationParams()
    vid: VideoParams = VideoParams()
    xfer: TransferParams = TransferParams()
