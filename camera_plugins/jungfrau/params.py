"""What a user may ask of a JUNGFRAU."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lima2_core.camera.params import AcquisitionParams
from lima2_core.schema import ParamsModel, quantity

GainMode = Literal["dynamic", "forceswitchg1", "forceswitchg2", "fixg1", "fixg2"]


class EmulatorParams(ParamsModel):
    """What the emulated detector sees, and what goes wrong on its way; not for a real one."""

    images: str = "numbered"
    """numbered (each pixel tells its frame and module), pattern (that of the virtual server),
    dark (noise around the pedestals of a calibration file, in the stage of the gain mode), or an
    HDF5 or NumPy file on the computer of the control, absolute path, with (frames, [modules,]
    512, 1024) uint16."""
    dataset: str = "raw"
    """Of the HDF5 file."""
    calibration_path: str = ""
    """Calibration file for dark images, absolute path."""
    faults: tuple[str, ...] = ()
    """Faults by rule, as in drop:frame=3,packet=5; see 'lima2 emulate'."""
    mix: str = ""
    """Faults at random, as in drop=0.01,double=0.001."""
    seed: int = Field(default=0, ge=0)
    """Of the faults and of the noise."""


class JungfrauDetParams(ParamsModel):
    """The detector and the way of its packets."""

    dispatch_mode: Literal["round_robin", "partial_frame"] = "round_robin"
    """round_robin: whole frames to each receiver in turn; partial_frame: each receiver takes its
    modules of every frame."""
    gain_mode: GainMode = "dynamic"
    """dynamic: each pixel switches by itself. The others force or fix a stage, for pedestals and
    tests. Fixing G0 can damage the detector and is not offered."""
    high_gain_g0: bool = False
    """High gain in stage G0."""
    readout_rows: int = quantity("pixel", default=512, ge=8, le=512, multiple_of=8)
    """Rows of each module that are read out, around its centre."""
    additional_storage_cells: int = Field(default=0, ge=0, le=15)
    """Each exposure gives one image more for each of them (chip 1.0 only)."""
    storage_cell_start: int = Field(default=15, ge=0, le=15)
    """The first storage cell."""
    readout_speed: Literal["full", "half", "quarter"] = "half"
    """full speed needs two interfaces."""
    power_chips: bool = False
    """Switch on the chips at Prepare where they are off: they draw 4 A per module at once."""
    high_voltage: int = quantity("V", default=-1, ge=-1, le=200)
    """Sensor bias to set at Prepare: 0, or 60 to 200; -1 leaves it as it is."""
    partial_frames: Literal["keep", "discard", "fail"] = "keep"
    """Frames that lack packets: keep and mark them, discard them, or end with an error. Pixels
    that did not come read 0x8000, which no pixel can be."""
    frame_timeout_ms: int = quantity("ms", default=200, ge=5, le=10_000)
    """A frame is closed when nothing came for so long, or with the first packet of frame N+2."""
    silence_ms: int = quantity("ms", default=1000, ge=100, le=60_000)
    """When nothing came for so long after the last frame was due, what is missing is lost."""
    nb_buffers: int = quantity("frames", default=0, ge=0, le=100_000)
    """Frames that find room between network and processing, in at most three quarters of the
    memory for frames; 0 = in a quarter of it, at most a second of the detector, at least 32."""
    emulator: EmulatorParams = EmulatorParams()

    @property
    def is_partial(self) -> bool:
        """Whether each receiver takes its modules of every frame."""
        return self.dispatch_mode == "partial_frame"


class JungfrauParams(AcquisitionParams):
    """Acquisition parameters of a JUNGFRAU."""

    det: JungfrauDetParams = JungfrauDetParams()
