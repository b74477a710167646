"""Keep of frames the pixels that hold something."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import PIXEL_TYPES, Frame, FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.errors import ParamError, PipelineError
from lima2_core.flow.task import Reduction
from processing.hits import Crowd, Hits, Part
from processing.kernels.hits import INDEX, Finder, choose_finder, threshold_in

_MAX_PIXELS = int(np.iinfo(INDEX).max)


class Sparsify(Reduction):
    """The `Hits` of a frame: position and value of the pixels that reach a threshold.

    The threshold is above 0, so that pixels without value (marks: the smallest value of the type,
    not-a-number, or 0) are no hits; saturated ones are.

    What waits for the file never takes more memory than the frame: from a share of hits on (see
    `most_hits`), the product is a `Crowd`, from which the hits are taken when they are written.

    Shapes: (1, rows, cols) of any pixel type.

    Args:
        place: where the frames lie in the whole image, if they are parts of it; positions are
            those in the whole image.
        where: path of the saving group in the tree of parameters.
    """

    name = "sparsify"

    def __init__(
        self,
        threshold: float = 1.0,
        place: Placement | None = None,
        *,
        where: str = "saving_sparse",
        threshold_path: str = "sparse.threshold",
    ) -> None:
        self._threshold = threshold
        self._place = place
        self._where = where
        self._threshold_path = threshold_path
        self._spec: FrameSpec | None = None
        self._part = Part(0)
        self._most = 0

    def resolve(self, spec: FrameSpec) -> None:
        bands, rows, cols = spec.shape
        if bands != 1:
            raise ParamError(
                f"frames of {bands} bands cannot be saved as hits, which have a position in one "
                "image; save whole frames",
                path=self._where,
            )
        if spec.dtype not in PIXEL_TYPES.values():
            raise ParamError(
                f"pixels of type {spec.dtype} cannot be saved; known: {', '.join(PIXEL_TYPES)}",
                path=self._where,
            )
        place = self._place
        pixels = rows * cols if place is None else place.rows * place.cols
        if not 0 < pixels <= _MAX_PIXELS:
            raise ParamError(
                f"positions in images of {pixels} pixels do not fit into {INDEX}; save whole "
                "frames",
                path=self._where,
            )
        least = threshold_in(spec.dtype, self._threshold)
        if least is None:
            raise ParamError(
                f"no pixel of type {spec.dtype} reaches {self._threshold:g}; the largest is "
                f"{np.iinfo(spec.dtype).max}; take a smaller threshold",
                path=self._threshold_path,
            )
        self._least: NDArray[Any] = least
        self._find: Finder = choose_finder(spec.dtype, least)
        self._most = most_hits(spec)
        self._part = Part.of(cols, place)
        self._spec = spec

    def process(self, frame: Frame) -> Hits | Crowd:
        spec = self._spec
        if spec is None or frame.data.shape != spec.shape or frame.data.dtype != spec.dtype:
            raise PipelineError(
                f"frame {frame.idx} is {frame.data.shape} {frame.data.dtype}, not what was "
                f"announced: {spec and (spec.shape, str(spec.dtype))}",
                task=self.name,
                frame_idx=frame.idx,
            )
        pixels = np.ascontiguousarray(frame.data).reshape(-1)
        told = frame.validity, frame.timestamp_s, frame.fields
        found = self._find(pixels, self._most)
        if found is None:
            if np.shares_memory(pixels, frame.data):
                pixels = pixels.copy()
            return Crowd(pixels, self._least, self._part, *told)
        index, intensity = found
        return Hits(self._part.in_whole(index), intensity, *told)


def most_hits(spec: FrameSpec) -> int:
    """Hits that take as much memory as the frame: with 16 bits a third of its pixels."""
    return spec.nbytes // (INDEX.itemsize + spec.dtype.itemsize)
