"""Everyday parameters of the whole system as attributes, under the names of Lima1 where it has one.

Each is a leaf of the model of `tango_servers.front_params`: writing one checks all of it, and the
next prepareAcq takes all of it. What the contract's own ``acq_params`` say is another matter.
"""

from __future__ import annotations

import enum
import json
import os
from typing import Any, ClassVar, get_args

from tango import AttrWriteType
from tango.server import attribute

from lima2_core.camera.params import ImageParams, TriggerMode
from lima2_core.errors import ParamError
from lima2_core.schema import json_value
from lima2_core.system.preflight import MOST_FRAMES
from tango_servers.base import text_of
from tango_servers.errors import as_dev_failed
from tango_servers.front_everyday import (
    ParamsDevice,
    everyday,
    json_group,
    point,
    seconds,
    text,
)
from tango_servers.front_images import LARGEST
from tango_servers.front_params import CLASS_NAME, PROCESSING, STATISTICS

TriggerModeLabel = enum.IntEnum(  # type: ignore[misc]
    "TriggerModeLabel", {name: number for number, name in enumerate(get_args(TriggerMode))}
)
FlipLabel = enum.IntEnum(  # type: ignore[misc]
    "FlipLabel",
    {
        name: number
        for number, name in enumerate(get_args(ImageParams.model_fields["flip"].annotation))
    },
)

ACQ = "acquisition.acq"
IMG = "acquisition.img"


def _absolute(folder: str) -> str:
    """A folder that servers can find; an empty text where nothing is saved."""
    if folder and not os.path.isabs(folder):
        raise ParamError(
            f"{folder!r} is no absolute path, and servers have no folder of their own", path=""
        )
    return folder


class FrontAttributes(ParamsDevice):
    """The parameters of the next acquisition of the whole system."""

    EVERYDAY: ClassVar[tuple[str, ...]] = (
        "acq_nb_frames",
        "acq_expo_time",
        "latency_time",
        "acq_trigger_mode",
        "nb_frames_per_trigger",
        "image_roi",
        "image_bin",
        "image_flip",
        "pipeline",
        "statistics_rois",
        "saving_enabled",
        "saving_directory",
        "saving_prefix",
        "saving_overwrite_policy",
        "saving_frame_per_file",
        "saving_compression",
        "fault_policy",
        "deferred_processing",
        "user_metadata",
        "front_params",
        "image_max_size",
        "image_band",
    )
    """Names of the attributes below, for those who push their changes."""

    acq_nb_frames = everyday(
        f"{ACQ}.nb_frames",
        "DevLong64",
        "Frames",
        "Frames of the next acquisition of the whole system; 0 = until stopAcq",
        unit="frames",
        min_value=0,
        max_value=MOST_FRAMES,
    )
    acq_expo_time = seconds(
        f"{ACQ}.expo_time",
        "Exposure time",
        "Integration time of one frame",
        min_value=1e-6,
    )
    latency_time = seconds(
        f"{ACQ}.latency_time",
        "Latency time",
        "From the end of one exposure to the start of the next",
        min_value=0,
    )
    acq_trigger_mode = everyday(
        f"{ACQ}.trigger_mode",
        TriggerModeLabel,
        "Trigger mode",
        "What starts an exposure: internal (the detector itself), software (triggerAcq), external "
        "(an edge), gate (a level, which is the exposure)",
        shown=lambda name: TriggerModeLabel[name],
        taken=lambda number: TriggerModeLabel(number).name,
    )
    nb_frames_per_trigger = everyday(
        f"{ACQ}.nb_frames_per_trigger",
        "DevLong64",
        "Frames per trigger",
        "Frames taken for each software or external trigger",
        unit="frames",
        min_value=1,
    )
    image_roi = everyday(
        f"{IMG}.roi",
        ("DevLong64",),
        "Image region",
        "x, y, width and height in binned pixels, read out by the detector if it can; 0, 0, 0, 0 "
        "= all",
        shown=lambda roi: [
            roi[corner][axis] for corner in ("topleft", "dimensions") for axis in "xy"
        ],
        taken=lambda values: {
            "topleft": point(values, 4, 0),
            "dimensions": point(values, 4, 2),
        },
        max_dim_x=4,
        unit="pixels",
    )
    image_bin = everyday(
        f"{IMG}.binning",
        ("DevLong64",),
        "Binning",
        "Pixels added up into one, along a row and down the rows, by the detector if it can",
        shown=lambda binning: [binning["x"], binning["y"]],
        taken=lambda values: point(values, 2, 0),
        max_dim_x=2,
        unit="pixels",
    )
    image_flip = everyday(
        f"{IMG}.flip",
        FlipLabel,
        "Flip",
        "Mirror images: none, left_right, up_down; after binning and region, if the detector can",
        shown=lambda name: FlipLabel[name],
        taken=lambda number: FlipLabel(number).name,
    )
    saving_enabled = everyday(
        ".enabled", bool, "Saving", "Whether processed frames are written to files"
    )
    saving_directory = text(
        ".base_path",
        "Saving folder",
        "Folder of the files: absolute, existing, seen by receivers and readers alike",
        taken=_absolute,
    )
    saving_prefix = text(
        ".filename_prefix", "File prefix", "First part of the names of files and master file"
    )
    saving_overwrite_policy = text(
        ".file_exists_policy",
        "Overwrite policy",
        "What to do with files of an earlier run: abort (refuse to prepare) or overwrite",
    )
    saving_frame_per_file = everyday(
        ".nb_frames_per_file",
        "DevLong64",
        "Frames per file",
        "Frames in each file of a receiver but the last",
        unit="frames",
        min_value=1,
    )
    saving_compression = text(
        ".compression", "Compression", "How frames are packed: none, zip, bshuf_lz4, bshuf_zstd"
    )
    fault_policy = json_group(
        "policy",
        "Fault policy",
        "What a run does about faults, as JSON: receiver_lost (abort, continue, mark), frame_lost "
        "(fail, mark, tolerate), tolerated_fraction, frame_partial (lost, accept)",
    )
    deferred_processing = everyday(
        "deferred",
        bool,
        "Deferred processing",
        "Only collect frames, until processAcq is called or memory is needed",
    )
    user_metadata = json_group(
        "metadata", "Metadata", "What the user wants to have with the data: a JSON object"
    )

    @attribute(
        dtype=str,
        access=AttrWriteType.READ_WRITE,
        label="Pipeline",
        doc="How frames are processed, such as LimaProcessingLegacy. Another one starts from its "
        "defaults; where files go stays",
        memorized=False,
    )
    def pipeline(self) -> str:
        return str(self.system.params.processing["class_name"])

    @as_dev_failed
    def write_pipeline(self, name: Any) -> None:
        self.ask(
            "pipeline",
            lambda params: f"{PROCESSING}.{CLASS_NAME}",
            lambda params, where: params.with_pipeline(text_of(name)),
        )

    @attribute(
        dtype=str,
        access=AttrWriteType.READ_WRITE,
        label="Regions",
        doc="Regions of the statistics, as JSON: a list of [x, y, width, height] and of "
        "[x, y, r1, r2, a1, a2]; [] = none",
        memorized=False,
    )
    def statistics_rois(self) -> str:
        return json.dumps(self.system.params.statistics_rois)

    @as_dev_failed
    def write_statistics_rois(self, value: Any) -> None:
        self.ask(
            "statistics_rois",
            lambda params: f"{PROCESSING}.{STATISTICS}",
            lambda params, where: params.with_statistics_rois(json_value(text_of(value))),
        )

    @attribute(
        dtype=str,
        access=AttrWriteType.READ_WRITE,
        label="All parameters",
        doc="Everything of the next acquisition (JSON): acquisition, processing, policy, deferred, "
        "metadata. What is not written has its default. The schema is the property 'schema' of "
        "this attribute in the Tango database",
        memorized=False,
    )
    def front_params(self) -> str:
        return self.system.params.to_json()

    @as_dev_failed
    def write_front_params(self, value: Any) -> None:
        self.ask(
            "front_params",
            lambda params: "",
            lambda params, where: type(params).from_json(text_of(value)),
        )

    @attribute(
        dtype="DevLong",
        access=AttrWriteType.READ_WRITE,
        label="Live image size",
        unit="pixels",
        min_value=16,
        max_value=LARGEST,
        doc="The longer side of last_image has no more pixels than this: others are left out",
        memorized=False,
    )
    def image_max_size(self) -> int:
        return self.system.image_choice.max_size

    def write_image_max_size(self, value: int) -> None:
        self.system.image_choice.max_size = value

    @attribute(
        dtype="DevLong",
        access=AttrWriteType.READ_WRITE,
        label="Live image band",
        unit="index",
        min_value=0,
        doc="The band of frames that last_image shows; of frames with fewer bands it is the last",
        memorized=False,
    )
    def image_band(self) -> int:
        return self.system.image_choice.band

    def write_image_band(self, value: int) -> None:
        self.system.image_choice.band = value
