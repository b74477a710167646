"""What scripted parts of a system tell: frames in rows, their records, descriptions, orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import FrameSpec, Validity
from lima2_core.data.geometry import Affine, Placement
from lima2_core.data.pooling import PART_RECORD
from lima2_core.data.record import RecordSpec
from lima2_core.data.rows import ROW_RECORD
from lima2_core.flow.pipeline import SavedFiles
from lima2_core.system.policy import FaultPolicy
from lima2_core.system.ports import RunDescription, SavedDescription
from lima2_core.system.run import SystemOrder

SUM_RECORD = np.dtype([("frame_idx", "<i4"), ("recv_idx", "<i4"), ("sum", "<f8")])
"""A record per frame, as a pipeline might give it."""

SUMS = "sums"
"""Name of the stream of such records."""


def rows(*indices: int, first_row: int = 0, code: Validity = Validity.VALID) -> NDArray[Any]:
    """Frames in consecutive rows, in the order in which a receiver delivers them."""
    told = np.zeros(len(indices), ROW_RECORD)
    told["frame_idx"] = indices
    told["row"] = np.arange(first_row, first_row + len(indices))
    told["timestamp_s"] = 100.0 + np.array(indices, np.float64)
    told["code"] = code
    return told


def gaps(*indices: int, code: Validity = Validity.DROPPED) -> NDArray[Any]:
    """Frames that have no row."""
    told = rows(*indices, code=code)
    told["row"], told["timestamp_s"] = -1, 0.0
    return told


def sums(*indices: int, receiver: int = 0, per_frame: int = 1) -> NDArray[Any]:
    """Records of frames; the sum is ten times the index, and the place among those of the frame."""
    told = np.zeros((len(indices), per_frame), SUM_RECORD)
    told["frame_idx"] = np.array(indices, int)[:, None]
    told["recv_idx"] = receiver
    told["sum"] = 10.0 * told["frame_idx"] + np.arange(per_frame)
    return told.reshape(-1)


def part_sums(*indices: int, receiver: int = 0, per_frame: int = 1) -> NDArray[Any]:
    """Records of one pixel in a part of frames, with the value that `sums` have as their sum."""
    whole = sums(*indices, receiver=receiver, per_frame=per_frame)
    told = np.zeros(len(whole), PART_RECORD)
    for name in ("frame_idx", "recv_idx", "sum"):
        told[name] = whole[name]
    for name in ("min", "max", "avg"):
        told[name] = whole["sum"]
    told["pixels"] = 1
    return told


def describe(
    *,
    saved: Sequence[str] = (),
    streams: Mapping[str, int] | None = None,
    depth: int = 1,
    keeps_rows: bool = True,
    strip: tuple[int, int] | None = None,
    reaches: bool = False,
) -> RunDescription:
    """What a run will give, with frames of 4 x 6 pixels.

    Args:
        saved: sources that are saved.
        streams: records per frame of each stream.
        depth: frames in a sum.
        keeps_rows: whether gaps have rows.
        strip: first and end row of the part that the receiver has of every frame.
        reaches: whether its part contributes to all records of frames.
    """
    spec = FrameSpec((1, 4, 6), np.dtype(np.uint16))
    placement = None
    if strip is not None:
        first, end = strip
        spec = spec.changed(shape=(1, end - first, 6), step=Affine.crop(first, 0))
        placement = Placement(first, 0, 4, 6)
    return RunDescription(
        input_spec=spec,
        output_spec=spec,
        streams={
            name: RecordSpec(name, SUM_RECORD, per_frame)
            for name, per_frame in (streams or {}).items()
        },
        saved={
            name: SavedDescription(spec, SavedFiles("/data", name, 0, 50, "e/i/d", False, "e", "d"))
            for name in saved
        },
        sources=("frame",),
        depth=depth,
        keeps_rows=keeps_rows,
        placement=placement,
        reaches={name: ((0, rows),) for name, rows in (streams or {}).items() if reaches},
    )


def order(
    nb_frames: int = 10,
    *,
    receiver_lost: str = "mark",
    frame_lost: str = "mark",
    tolerated: float = 0.0,
    frame_partial: str = "lost",
    deferred: bool = False,
    **processing: Any,
) -> SystemOrder:
    """An acquisition of so many frames, with a policy."""
    policy = FaultPolicy.from_tree(
        {
            "receiver_lost": receiver_lost,
            "frame_lost": frame_lost,
            "tolerated_fraction": tolerated,
            "frame_partial": frame_partial,
        }
    )
    return SystemOrder({"acq": {"nb_frames": nb_frames}}, processing, policy, deferred=deferred)
