"""Pack frames for the file."""

from __future__ import annotations

from lima2_core.data.frame import PIXEL_TYPES, Frame, FrameSpec
from lima2_core.errors import ParamError, PipelineError
from lima2_core.flow.task import Reduction
from processing.codecs import CODECS, EncodedChunk
from processing.saving import SavingParams

_MAX_CHUNK_BYTES = 2**32 - 1


class EncodeChunk(Reduction):
    """The `EncodedChunk` of a frame, as `Hdf5Sink` takes it.

    Without compression the chunk is the frame's own memory, which then stays lent until it is
    written; a frame that must not be kept is copied, unless ``hold`` says that there are enough.

    Shapes: (bands, rows, cols) of any pixel type.

    Args:
        where: path of ``params`` in the tree of parameters.
        hold: whether the source can do without as many frames as wait for the file.
    """

    name = "encode_chunk"

    def __init__(self, params: SavingParams, where: str = "saving", *, hold: bool = False) -> None:
        self._hold = hold
        self._codec = CODECS[params.compression]
        self._where = where
        self._spec: FrameSpec | None = None

    def resolve(self, spec: FrameSpec) -> None:
        if spec.dtype not in PIXEL_TYPES.values():
            raise ParamError(
                f"pixels of type {spec.dtype} cannot be saved; known: {', '.join(PIXEL_TYPES)}",
                path=self._where,
            )
        if not 0 < spec.nbytes <= _MAX_CHUNK_BYTES:
            raise ParamError(
                f"a frame of {spec.nbytes} bytes does not fit into an HDF5 chunk, which holds 1 to "
                f"{_MAX_CHUNK_BYTES}; reduce the region or the number of bands",
                path=self._where,
            )
        self._spec = spec

    def process(self, frame: Frame) -> EncodedChunk:
        # HDF5 takes a chunk unseen: one of another size would only show when it is read.
        spec = self._spec
        if spec is None or frame.data.shape != spec.shape or frame.data.dtype != spec.dtype:
            raise PipelineError(
                f"frame {frame.idx} is {frame.data.shape} {frame.data.dtype}, not what was "
                f"announced: {spec and (spec.shape, str(spec.dtype))}",
                task=self.name,
                frame_idx=frame.idx,
            )
        data = self._codec.encode(frame.data)
        lease = None
        if data is frame.data and (frame.keepable or self._hold):
            lease = frame.lease
        elif data is frame.data:
            data = frame.data.copy()
        return EncodedChunk(data, frame.validity, lease, frame.timestamp_s, frame.fields)
