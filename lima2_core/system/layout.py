"""How the frames of a system are spread over its receivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.data.record import RecordSpec
from lima2_core.errors import ParamError
from lima2_core.system.ports import RunDescription

INPUT_SOURCE = "input_frame"
"""Frames as they came from the camera; all other sources are processed ones."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the descriptions of all receivers have in common."""

    topology: str
    """single, round_robin, dynamic or partial."""
    parts: int
    """Receivers that each have a part of every frame; 1 if each frame is with one."""
    known: bool
    """Whether the receiver of a frame follows from its index."""
    depth: int
    """Frames of the detector in one processed frame."""
    placements: tuple[Placement, ...]
    streams: Mapping[str, RecordSpec]
    sources: Mapping[str, FrameSpec]
    """Whole frames that can be fetched."""
    saved: Mapping[str, FrameSpec]
    """Whole frames that are saved."""

    def depth_of(self, name: str) -> int:
        """Frames of the detector in one frame of a source, or in one entry of a stream."""
        return 1 if name == INPUT_SOURCE else self.depth


def layout_of(descriptions: Sequence[RunDescription]) -> Layout:
    """Put the descriptions of all receivers together.

    Raises:
        ParamError: they do not fit together.
    """
    first = descriptions[0]
    for n, other in enumerate(descriptions):
        if other.streams != first.streams or other.saved.keys() != first.saved.keys():
            raise ParamError(f"receiver {n} prepared another pipeline than receiver 0", path="proc")
        if (other.placement is None) != (first.placement is None):
            raise ParamError("some receivers have parts of frames, some whole ones", path="det")
        if other.placement is not None and not _stays_in_place(other):
            raise ParamError(
                "parts of frames cannot be put together once the processing has changed their "
                "geometry; change it in the detector, or give whole frames to the receivers",
                path="proc.geometry",
            )
    placements = tuple(one.placement for one in descriptions if one.placement is not None)
    parts = len(descriptions) if placements else 1
    known = bool(placements) or first.keeps_rows or len(descriptions) == 1
    if placements:
        topology = "partial"
    elif len(descriptions) == 1:
        topology = "single"
    else:
        topology = "round_robin" if known else "dynamic"
    sources = {
        name: _whole(first.input_spec if name == INPUT_SOURCE else first.output_spec, placements)
        for name in first.sources
    }
    # Records of parts are about parts: put together they would not be records of frames.
    streams = {} if placements else dict(first.streams)
    return Layout(
        topology=topology,
        parts=parts,
        known=known,
        depth=first.depth,
        placements=placements,
        streams=streams,
        sources=sources,
        saved={name: _whole(one.spec, placements) for name, one in first.saved.items()},
    )


def _stays_in_place(description: RunDescription) -> bool:
    """Whether processed frames lie where those of the camera do."""
    before, after = description.input_spec, description.output_spec
    return before.shape[1:] == after.shape[1:] and before.affine == after.affine


def _whole(spec: FrameSpec, placements: Sequence[Placement]) -> FrameSpec:
    if not placements:
        return spec
    return replace(spec, shape=(spec.shape[0], placements[0].rows, placements[0].cols))
