"""What a user may ask of the camera that plays files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lima2_core.camera.params import AcquisitionParams
from lima2_core.schema import ParamsModel, quantity


class FrameSliceParams(ParamsModel):
    """Which of the recorded frames are played."""

    start: int = quantity("frames", default=0, ge=0)
    count: int = quantity("frames", default=0, ge=0)
    """How many are played; 0 = all."""
    stride: int = quantity("frames", default=1, ge=1)


class ReaderDetParams(ParamsModel):
    """The recorded frames: a series of numbered files, or the one in ``file``."""

    base_path: str = "/tmp"
    """Folder of the series."""
    dataset_path: str = "/entry_0000/measurement/data"
    """Dataset in a nexus file: (frames, rows, columns) or (frames, bands, rows, columns)."""
    file_type: Literal["nexus", "edf", "cbf", "tiff"] = "nexus"
    filename_format: str = "{filename_prefix}_{filename_rank}_{file_number:05d}{filename_suffix}"
    """How file names are made of the following parameters and the file number."""
    filename_prefix: str = "lima2"
    filename_rank: int = Field(default=0, ge=0)
    filename_suffix: str = ".h5"
    frame_slice: FrameSliceParams = FrameSliceParams()
    nb_frames_per_file: int = quantity("frames", default=50, ge=1)
    """Frames in each nexus file of a series but the last; other types tell it themselves."""
    start_number: int = Field(default=0, ge=0)
    """Number of the first file of the series."""
    nb_prefetch_frames: int = quantity("frames", default=16, ge=1)
    """Frames that are read before they are due."""
    file: str = ""
    """A single file, as /path/file.h5 or /path/file.h5::/dataset; empty = the series."""
    loop: bool = False
    """Start again after the last recorded frame."""
    as_fast_as_possible: bool = False
    """Give frames as soon as they are read, whatever the exposure time."""


class ReaderParams(AcquisitionParams):
    """Acquisition parameters of the camera that plays files."""

    det: ReaderDetParams = ReaderDetParams()
