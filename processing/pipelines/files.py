"""The files of a pipeline: what packs its frames, and the sinks that write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lima2_core.data.fields import FrameField
from lima2_core.data.frame import FrameSpec
from lima2_core.data.record import RecordSpec, RecordStream
from lima2_core.data.rows import ROW_RECORD, RowSink
from lima2_core.errors import ParamError
from lima2_core.flow.pipeline import Lane, SavedSource
from lima2_core.flow.plugin import BuildContext
from processing.kernels.marks import Marks
from processing.pipelines.spare import SpareFrames
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5 import Hdf5Sink
from processing.tasks.encode_chunk import EncodeChunk

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
    collections: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """How they were made, by the name of a group."""


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
        self._taken: list[SavingParams] = []
        self.sinks: dict[str, Hdf5Sink] = {}
        """By the path of their parameters."""
        self.saved: dict[str, SavedSource] = {}

    def add(self, params: SavingParams, frames: SavedFrames) -> tuple[EncodeChunk, list[Lane]]:
        """What packs frames, and the lanes that take them to files and tell of rows.

        Raises:
            ParamError: they cannot be written.
        """
        context, where, spec = self._context, frames.where, frames.spec
        # Without a rank from the client each receiver takes its own, so that none overwrites.
        rank = params.filename_rank or context.share.receiver
        params = params.model_copy(update={"filename_rank": rank})
        params.check(where)
        if any(_same_files(params, other) for other in self._taken):
            raise ParamError(
                "input and processed frames cannot go to files of the same name; give saving and "
                "saving_input another filename_prefix or base_path",
                path=f"{where}.filename_prefix",
            )
        # Packed frames are memory of their own.
        hold = params.compression == "none" and self._spare.take(_queue_depth(spec))
        encode = EncodeChunk(params, where, hold=hold)
        encode.resolve(spec)
        told = frames.marks.told() if frames.marks is not None else {}
        metadata = FileMetadata(
            acq_id=context.acq_id,
            detector=context.metadata,
            acquisition=context.acquisition.to_tree(),
            processing=self._processing,
            marks=told,
            collections=frames.collections,
        )
        sink = Hdf5Sink(
            params,
            spec,
            metadata,
            expected_rows=frames.expected,
            # Without fixed rows nothing else tells which frame is which.
            with_frame_idx=params.include_frame_idx or not context.keeps_rows,
            fields=frames.fields,
        )
        self.sinks[where] = sink
        self._taken.append(params)
        rows = RecordStream(RecordSpec(f"rows/{frames.source}", ROW_RECORD))
        files = replace(
            params.saved_files(spec),
            marks=told,
            collections=frames.collections,
            frame_fields={one.name: one.to_tree() for one in frames.fields},
        )
        self.saved[frames.source] = SavedSource(spec, files, rows, lambda: sink.stats().rows_saved)
        lanes = [
            Lane(where, sink, encode, _queue_depth(spec)),
            Lane(f"rows/{frames.source}", RowSink(rows), encode),
        ]
        return encode, lanes

    def names(self) -> list[str]:
        """The files made so far."""
        return [name for sink in self.sinks.values() for name in sink.files]


def _same_files(one: SavingParams, other: SavingParams) -> bool:
    return (one.folder.resolve(), one.path(0).name) == (other.folder.resolve(), other.path(0).name)


def _queue_depth(spec: FrameSpec) -> int:
    """Packed frames that may wait for the file."""
    return max(4, min(QUEUE_FRAMES, _QUEUE_BYTES // max(1, spec.nbytes)))
