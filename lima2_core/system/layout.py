"""How the frames of a system are spread over its receivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Affine, Placement
from lima2_core.data.pooling import Reach
from lima2_core.data.record import RecordSpec
from lima2_core.errors import ParamError
from lima2_core.system.paths import ACQUISITION, PROCESSING
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
    places: Mapping[str, tuple[Placement, ...]]
    """By source: where each receiver has its part; nothing if each frame is with one."""
    fills: Mapping[str, float]
    """By source: what pixels of whole frames read that no receiver has."""
    streams: Mapping[str, RecordSpec]
    sources: Mapping[str, FrameSpec]
    """Whole frames that can be fetched."""
    saved: Mapping[str, FrameSpec]
    """Whole frames that are saved."""
    reaches: Mapping[str, tuple[Reach, ...]] = field(default_factory=dict)
    """By stream whose records are made of those of parts: what each receiver contributes to."""

    def depth_of(self, name: str) -> int:
        """Frames of the detector in one frame of a source, or in one entry of a stream."""
        return 1 if name == INPUT_SOURCE else self.depth

    def placements(self, name: str) -> tuple[Placement, ...]:
        """Where each receiver has its part of the frames of a source, if they are parts."""
        return self.places.get(name, ())

    def fill(self, name: str) -> float:
        """What pixels of the frames of a source read that no receiver has."""
        return self.fills.get(name, 0)


def layout_of(descriptions: Sequence[RunDescription]) -> Layout:
    """Put the descriptions of all receivers together.

    Raises:
        ParamError: they do not fit together.
    """
    first = descriptions[0]
    for n, other in enumerate(descriptions):
        if _offers(other) != _offers(first):
            raise ParamError(
                f"receiver {n} prepared another pipeline than receiver 0", path=PROCESSING
            )
        if (other.placement is None) != (first.placement is None):
            raise ParamError(
                "some receivers have parts of frames, some whole ones", path=f"{ACQUISITION}.det"
            )
        if other.placement is not None and not (other.output_placement or _stays_in_place(other)):
            raise ParamError(
                "parts of frames cannot be put together once the processing has changed their "
                "geometry; change it in the detector, or give whole frames to the receivers",
                path=f"{PROCESSING}.geometry",
            )
    placements = _placements(descriptions, INPUT_SOURCE)
    processed = _placements(descriptions, "")
    for where, path in ((placements, f"{ACQUISITION}.det"), (processed, PROCESSING)):
        if len({(one.rows, one.cols) for one in where}) > 1:
            raise ParamError("the receivers have parts of frames of different sizes", path=path)
    names = {*first.sources, *first.saved}
    places = (
        {name: placements if name == INPUT_SOURCE else processed for name in names}
        if placements
        else {}
    )
    parts = len(descriptions) if placements else 1
    known = bool(placements) or first.keeps_rows or len(descriptions) == 1
    if placements:
        topology = "partial"
    elif len(descriptions) == 1:
        topology = "single"
    else:
        topology = "round_robin" if known else "dynamic"
    sources = {
        name: _whole(
            first.input_spec if name == INPUT_SOURCE else first.output_spec, places.get(name, ())
        )
        for name in first.sources
    }
    reaches = {
        name: tuple(one.reaches[name] for one in descriptions)
        for name in (first.reaches if placements else ())
    }
    # Records of parts are about parts: only some can be made into records of frames.
    streams = {
        name: spec for name, spec in first.streams.items() if name in reaches or not placements
    }
    return Layout(
        topology=topology,
        parts=parts,
        known=known,
        depth=first.depth,
        places=places,
        fills={name: first.fill if name == INPUT_SOURCE else first.output_fill for name in names},
        streams=streams,
        sources=sources,
        saved={name: _whole(one.spec, places.get(name, ())) for name, one in first.saved.items()},
        reaches=reaches,
    )


def _offers(description: RunDescription) -> tuple[object, ...]:
    """What all receivers have to have in common."""
    return description.streams, description.saved.keys(), description.reaches.keys()


def _stays_in_place(description: RunDescription) -> bool:
    """Whether processed frames lie where those of the camera do."""
    before, after = description.input_spec, description.output_spec
    return before.shape[1:] == after.shape[1:] and before.affine == after.affine


def _placements(descriptions: Sequence[RunDescription], source: str) -> tuple[Placement, ...]:
    """Of the parts of a source; those of processed frames are of the camera, if none is told."""
    found = [
        one.placement if source == INPUT_SOURCE else one.output_placement or one.placement
        for one in descriptions
    ]
    return tuple(one for one in found if one is not None)


def _whole(spec: FrameSpec, placements: Sequence[Placement]) -> FrameSpec:
    """Whole frames, where ``spec`` is of the part of the first receiver."""
    if not placements:
        return spec
    place = placements[0]
    return replace(
        spec,
        shape=(spec.shape[0], place.rows, place.cols),
        affine=spec.affine.then(Affine.crop(-place.row, -place.col)),
    )
