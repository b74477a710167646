"""Do something with some of the frames only."""

from __future__ import annotations

from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.flow.task import Reduction


class Sampled(Reduction):
    """Another reduction for one of ``sampling`` frames, by their numbers in the acquisition.

    The others give a `Gap`, so that all keep their places.
    """

    def __init__(self, reduction: Reduction, sampling: int) -> None:
        self.name = reduction.name
        self._reduction = reduction
        self._sampling = sampling

    def resolve(self, spec: FrameSpec) -> None:
        self._reduction.resolve(spec)

    def process(self, frame: Frame) -> object:
        if frame.idx % self._sampling:
            return Gap(frame.idx, Validity.VETO, "not among the frames to be saved")
        return self._reduction.process(frame)
