"""What a pipeline does with one frame."""

from __future__ import annotations

from abc import ABC, abstractmethod

from lima2_core.data.frame import Frame, FrameSpec


class Transform(ABC):
    """Makes a new frame from a frame; what follows in the chain sees the new one.

    Several threads call `process` at the same time for different frames, so a transform keeps
    nothing between two calls. It must not change its input.
    """

    name: str = "transform"

    @abstractmethod
    def resolve(self, spec: FrameSpec) -> FrameSpec:
        """Say what comes out for ``spec``; called once, before the first frame.

        Raises:
            ParamError: this cannot be done to such frames.
        """

    @abstractmethod
    def process(self, frame: Frame) -> Frame:
        """Give the new frame, exactly as `resolve` announced it."""


class Reduction(ABC):
    """Makes something else from a frame: statistics, a compressed chunk; the frame goes on.

    The same rules as for a `Transform`.
    """

    name: str = "reduction"

    @abstractmethod
    def resolve(self, spec: FrameSpec) -> None:
        """Check that frames of ``spec`` can be reduced; called once, before the first frame.

        Raises:
            ParamError: they cannot.
        """

    @abstractmethod
    def process(self, frame: Frame) -> object:
        """Give the product."""


Task = Transform | Reduction
