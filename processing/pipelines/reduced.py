"""Records of regions: the tasks that make them, and the streams and lanes that carry them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.data.record import RecordStream
from lima2_core.flow.pipeline import Lane, PartRecords
from lima2_core.flow.record_sink import PartRecordSink, RecordSink
from lima2_core.ids import ReceiverIdx
from processing.kernels.marks import Marks
from processing.params import BufferParams, ProfilesParams, StatisticsParams
from processing.tasks.reduce_rois import ProjectRois, ReduceRois


class RegionParams(Protocol):
    """Parameters of a pipeline that has records of regions."""

    @property
    def statistics(self) -> StatisticsParams: ...

    @property
    def profiles(self) -> ProfilesParams: ...

    @property
    def buffers(self) -> BufferParams: ...


@dataclass(slots=True)
class Reduced:
    """What becomes part of a pipeline."""

    tasks: list[ReduceRois | ProjectRois] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    streams: dict[str, RecordStream] = field(default_factory=dict)
    parts: dict[str, PartRecords] = field(default_factory=dict)
    """Where frames are parts: what the system makes records of whole frames of."""


def reduce_regions(
    params: RegionParams,
    spec: FrameSpec,
    receiver: ReceiverIdx,
    mask: NDArray[Any] | None,
    marks: Marks | None,
    place: Placement | None,
) -> Reduced:
    """Make records of frames of ``spec``, as far as any are asked for.

    Pixels that are not 0 in ``mask``, or are one of ``marks``, do not count. Where frames are parts
    and it is known where they lie in whole ones, this is ``place``, and regions are in pixels of
    whole frames.

    Raises:
        ParamError: a region is none.
    """
    made = Reduced()
    statistics, profiles, buffers = params.statistics, params.profiles, params.buffers
    wanted: list[tuple[ReduceRois | ProjectRois, int]] = []
    if statistics.enabled and (statistics.rect_rois or statistics.arc_rois):
        rois = ReduceRois(statistics, receiver, mask, marks, place)
        wanted.append((rois, buffers.nb_roi_statistics_buffer))
    if profiles.enabled and (profiles.rois or profiles.directions):
        lines = ProjectRois(profiles, receiver, mask, marks, place)
        wanted.append((lines, buffers.nb_roi_profiles_buffer))
    for task, capacity in wanted:
        task.resolve(spec)
        stream = RecordStream(task.records, capacity)
        sink = RecordSink(stream, task.missing)
        if place is not None:
            parts = RecordStream(task.products, capacity)
            sink = PartRecordSink(stream, parts, task.missing)
            made.parts[task.stream] = PartRecords(parts, task.reach)
        made.streams[task.stream] = stream
        made.lanes.append(Lane(task.stream, sink, task))
        made.tasks.append(task)
    return made
