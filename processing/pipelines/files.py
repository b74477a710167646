"""The files of a pipeline: what packs its frames, and the sinks that write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lima2_core.data.fields import FrameField
from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.data.record import RecordSpec, RecordStream
from lima2_core.data.rows import ROW_RECORD, RowSink
from lima2_core.errors import ParamError
from lima2_core.flow.pipeline import Lane, SavedSource
from lima2_core.flow.plugin import BuildContext
from lima2_core.flow.task import Reduction
from processing.jungfrau.written import calibration_written
from processing.kernels.marks import Marks
from processing.params import SparseParams
from processing.pipelines.spare import SpareFrames
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5 import Hdf5Sink
from processing.sinks.hdf5_rows import RowFilesSink
from processing.sinks.hdf5_sparse import SparseSink
from processing.tasks.encode_chunk import EncodeChunk
from processing.tasks.sampled import Sampled
from processing.tasks.sparsify import Sparsify

_QUEUE_BYTES = 2**28
QUEUE_FRAMES = 64
"""Packed frames that may wait for a file, if they are small."""


@dataclass(frozen=True, slots=True)
class SavedFrames:
    """Frames that are to be saved, and what is to be told of them."""

    source: str
    """Name of the frames for clients."""
    where: str
    """Path of their group of parameters."""
    spec: FrameSpec
    expected: int | None
    fields: Sequence[FrameField] = ()
    """What comes with each of them from the camera."""
    marks: Marks | None = None
    """Values that are no measurements."""
    fill: float = 0
    """What is read where a frame is missing."""
    collections: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """How they were made, by the name of a group."""

    @property
    def told(self) -> Mapping[str, float]:
        """The marks, as files tell them."""
        return self.marks.told() if self.marks is not None else {}


class Files:
    """All files of one pipeline.

    Args:
        processing: its parameters.
        spare: frames of the camera that may wait for a file.
    """

    def __init__(
        self, context: BuildContext, processing: Mapping[str, object], spare: SpareFrames
    ) -> None:
        self._context = context
        self._spare = spare
        self._processing = processing
        self._taken: dict[str, SavingParams] = {}
        self.sinks: dict[str, RowFilesSink[Any]] = {}
        """By the path of their parameters."""
        self.saved: dict[str, SavedSource] = {}

    def add(self, params: SavingParams, frames: SavedFrames) -> tuple[Reduction, list[Lane]]:
        """What packs frames, and the lanes that take them to files and tell of rows.

        Raises:
            ParamError: they cannot be written.
        """
        where, spec = frames.where, frames.spec
        params = self._ready(params, where)
        # Packed frames are memory of their own.
        hold = params.compression == "none" and self._spare.take(_queue_depth(spec))
        encode = EncodeChunk(params, where, hold=hold)
        encode.resolve(spec)
        sink = Hdf5Sink(
            params,
            spec,
            self._metadata(frames),
            expected_rows=frames.expected,
            with_frame_idx=self._with_frame_idx(params),
            fields=frames.fields,
        )
        return self._lanes(params, frames, encode, sink)

    def add_sparse(
        self,
        params: SavingParams,
        sparse: SparseParams,
        frames: SavedFrames,
        place: Placement | None,
    ) -> tuple[Reduction, list[Lane]]:
        """The same for the hits of frames; ``place`` is where these lie in whole ones.

        Raises:
            ParamError: they cannot be written.
        """
        where, spec = frames.where, frames.spec
        params = self._ready(params, where)
        sparsify = Sparsify(sparse.threshold, place, where=where)
        sparsify.resolve(spec)
        sink = SparseSink(
            params,
            spec,
            self._metadata(frames),
            image_shape=spec.shape[1:] if place is None else (place.rows, place.cols),
            threshold=sparse.threshold,
            by_frame=sparse.by_frame,
            expected_rows=frames.expected,
            with_frame_idx=self._with_frame_idx(params),
            fields=frames.fields,
        )
        reduction, lanes = self._lanes(params, frames, sparsify, sink)
        source = self.saved[frames.source]
        files = replace(source.files, hits=True, threshold=sparse.threshold)
        self.saved[frames.source] = replace(source, files=files)
        return reduction, lanes

    def _ready(self, params: SavingParams, where: str) -> SavingParams:
        """The parameters with the rank of this receiver, once it is sure that they can be used."""
        # Without a rank from the client each receiver takes its own, so that none overwrites.
        rank = params.filename_rank or self._context.share.receiver
        params = params.model_copy(update={"filename_rank": rank})
        params.check(where)
        for other, taken in self._taken.items():
            if _same_files(params, taken):
                raise ParamError(
                    f"{other} and {where} cannot go to files of the same name; give one of them "
                    "another filename_prefix or base_path",
                    path=f"{where}.filename_prefix",
                )
        self._taken[where] = params
        return params

    def _with_frame_idx(self, params: SavingParams) -> bool:
        # Without fixed rows nothing else tells which frame is which.
        return params.include_frame_idx or not self._context.keeps_rows

    def _metadata(self, frames: SavedFrames) -> FileMetadata:
        return FileMetadata(
            acq_id=self._context.acq_id,
            detector=self._context.metadata,
            acquisition=self._context.acquisition.to_tree(),
            processing=self._processing,
            marks=frames.told,
            collections=frames.collections,
            fill=frames.fill,
        )

    def _lanes(
        self,
        params: SavingParams,
        frames: SavedFrames,
        reduction: Reduction,
        sink: RowFilesSink[Any],
    ) -> tuple[Reduction, list[Lane]]:
        """Note the files, and make the lanes to them for what ``reduction`` packs."""
        if params.sampling > 1:
            reduction = Sampled(reduction, params.sampling)
        self.sinks[frames.where] = sink
        rows = RecordStream(RecordSpec(f"rows/{frames.source}", ROW_RECORD))
        files = replace(
            params.saved_files(frames.spec),
            marks=frames.told,
            collections=frames.collections,
            frame_fields={one.name: one.to_tree() for one in frames.fields},
            block=frames.where,
        )
        self.saved[frames.source] = SavedSource(
            frames.spec, files, rows, lambda: sink.stats().rows_saved
        )
        return reduction, [
            Lane(frames.where, sink, reduction, _queue_depth(frames.spec)),
            Lane(f"rows/{frames.source}", RowSink(rows), reduction),
        ]

    def names(self) -> list[str]:
        """The files made so far."""
        frames = (name for sink in self.sinks.values() for name in sink.files)
        return [*frames, *calibration_written(self._processing, self._context.acq_id)]


def _same_files(one: SavingParams, other: SavingParams) -> bool:
    return (one.folder.resolve(), one.path(0).name) == (other.folder.resolve(), other.path(0).name)


def _queue_depth(spec: FrameSpec) -> int:
    """Packed frames that may wait for the file."""
    return max(4, min(QUEUE_FRAMES, _QUEUE_BYTES // max(1, spec.nbytes)))
