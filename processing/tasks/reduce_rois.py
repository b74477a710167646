"""Statistics of regions, and profiles through them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.data.pooling import PART_RECORD, Reach, reach_of
from lima2_core.data.record import RecordSpec
from lima2_core.errors import ParamError
from lima2_core.flow.task import Reduction
from lima2_core.ids import FrameIdx, ReceiverIdx
from processing.kernels.marks import Marks
from processing.kernels.moments import Moments
from processing.kernels.profiles import RegionProfiles
from processing.kernels.regions import ROI_RECORD, RegionStatistics
from processing.params import ProfilesParams, StatisticsParams, region

Mask = NDArray[Any] | None


class _RegionReduction(Reduction):
    """What both have in common: records with the indices of frame and receiver.

    Args:
        mask: pixels that are not 0 in it do not count.
        marks: values of pixels that were not measured: those without value do not count, saturated
            ones show as the maximum alone.
        place: where frames lie in whole ones, if they are parts: regions are then in pixels of
            these, and records are `PART_RECORD`, of which those of whole frames can be made.
    """

    stream: str
    kernel: RegionStatistics | RegionProfiles

    def __init__(
        self,
        receiver: ReceiverIdx,
        mask: Mask,
        marks: Marks | None,
        place: Placement | None,
    ) -> None:
        self._receiver = receiver
        self._mask = mask
        self._marks = marks
        self._place = place
        self._dtype = ROI_RECORD if place is None else PART_RECORD

    @property
    def records(self) -> RecordSpec:
        """The records of each frame as clients get them; known once resolved."""
        return RecordSpec(self.stream, ROI_RECORD, self.kernel.length)

    @property
    def products(self) -> RecordSpec:
        """The records that `process` gives; known once resolved."""
        return RecordSpec(self.stream, self._dtype, self.kernel.length)

    @property
    def reach(self) -> Reach:
        """The records to which pixels of these frames contribute; known once resolved."""
        return reach_of(self.kernel.sizes)

    def process(self, frame: Frame) -> NDArray[Any]:
        records = np.empty(self.kernel.length, self._dtype)
        self.kernel.fill(frame.data, records)
        records["frame_idx"] = frame.idx
        records["recv_idx"] = self._receiver
        return records

    def missing(self, idx: FrameIdx) -> NDArray[Any]:
        """The records of a frame that is not there: its indices, and not-a-number."""
        records = np.zeros(self.kernel.length, self._dtype)
        for name in set(Moments._fields) & set(self._dtype.names or ()):
            records[name] = np.nan
        records["frame_idx"] = idx
        records["recv_idx"] = self._receiver
        return records

    def _whole(self, spec: FrameSpec) -> tuple[int, int]:
        """Rows and columns of the images in which regions are."""
        place = self._place
        return (place.rows, place.cols) if place is not None else spec.shape[1:]


class ReduceRois(_RegionReduction):
    """Minimum, maximum, mean, standard deviation and sum: rectangles first, then arcs."""

    name = "reduce_rois"
    stream = "roi_statistics"

    def __init__(
        self,
        params: StatisticsParams,
        receiver: ReceiverIdx,
        mask: Mask,
        marks: Marks | None = None,
        place: Placement | None = None,
    ) -> None:
        super().__init__(receiver, mask, marks, place)
        self._params = params

    def resolve(self, spec: FrameSpec) -> None:
        rows, cols = self._whole(spec)
        rects = [
            region(rect, rows, cols, f"statistics.rect_rois.{n}")
            for n, rect in enumerate(self._params.rect_rois)
        ]
        for n, arc in enumerate(self._params.arc_rois):
            if arc.r2 <= arc.r1:
                raise ParamError(
                    f"the outer radius {arc.r2} is not above the inner one {arc.r1}",
                    path=f"statistics.arc_rois.{n}.r2",
                )
            if arc.a2 < arc.a1:
                raise ParamError(
                    f"the last angle {arc.a2} is below the first one {arc.a1}; add 360",
                    path=f"statistics.arc_rois.{n}.a2",
                )
        arcs = [arc.arc() for arc in self._params.arc_rois]
        self.kernel = RegionStatistics(
            rects,
            arcs,
            spec.shape,
            spec.dtype,
            self._mask,
            marks=self._marks,
            place=self._place,
        )


class ProjectRois(_RegionReduction):
    """The same of every column or row of rectangles, one profile after the other."""

    name = "project_rois"
    stream = "roi_profiles"

    def __init__(
        self,
        params: ProfilesParams,
        receiver: ReceiverIdx,
        mask: Mask,
        marks: Marks | None = None,
        place: Placement | None = None,
    ) -> None:
        super().__init__(receiver, mask, marks, place)
        self._params = params

    def resolve(self, spec: FrameSpec) -> None:
        rows, cols = self._whole(spec)
        rois, directions = self._params.rois, self._params.directions
        if len(rois) != len(directions):
            raise ParamError(
                f"{len(directions)} directions for {len(rois)} regions; give one for each",
                path="profiles.directions",
            )
        rects = [region(roi, rows, cols, f"profiles.rois.{n}") for n, roi in enumerate(rois)]
        self.kernel = RegionProfiles(
            rects,
            directions,
            spec.shape,
            spec.dtype,
            self._mask,
            marks=self._marks,
            place=self._place,
        )
