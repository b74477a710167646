"""The classic pipeline: convert, correct, reshape, accumulate, reduce, save.

::

    input --> convert, correct, reshape --[accumulate]--> reduce, project, encode, sparsify
      |                                                     |     |         |       |
      +-> input_frame, frame_idx, saving_input, pedestal   frame  records  saving  saving_sparse
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.data.record import FRAME_IDX_RECORD, RecordSpec, RecordStream
from lima2_core.flow.executor import frames_in_flight
from lima2_core.flow.pipeline import INPUT, OUTPUT, Counter, Lane, PartRecords, Pipeline, Stage
from lima2_core.flow.plugin import BuildContext, PipelinePlugin, SourceInfo, StreamInfo
from lima2_core.flow.record_sink import FrameIdxSink
from lima2_core.flow.tap import Tap
from lima2_core.flow.task import Reduction, Task
from lima2_core.schema import ParamsModel
from processing.calibration_files import load_map
from processing.jungfrau.params import PedestalParams, PhotonsParams
from processing.kernels.marks import Marks
from processing.params import (
    AccumulationParams,
    BufferParams,
    CalibrationFileParams,
    CountrateProtectionParams,
    FifoParams,
    GeometryParams,
    ProfilesParams,
    SparseParams,
    StatisticsParams,
    TapsParams,
)
from processing.pipelines.files import QUEUE_FRAMES, Files, SavedFrames
from processing.pipelines.photons import (
    conversion,
    dark_lanes,
    fill_of,
    laid_out,
    of_parts,
)
from processing.pipelines.preload import preload
from processing.pipelines.reduced import reduce_regions
from processing.pipelines.saved import Saved
from processing.pipelines.spare import SpareFrames
from processing.saving import InputSavingParams, SavingParams, SparseSavingParams
from processing.tasks.accumulate import Accumulate
from processing.tasks.buffers import OutputBuffers, grow_within
from processing.tasks.convert_photons import ConvertPhotons
from processing.tasks.correct_pixels import CorrectPixels
from processing.tasks.protect_countrate import ProtectCountrate
from processing.tasks.reshape_image import ReshapeImage


class LegacyParams(ParamsModel):
    """The classic pipeline: correction, geometry, accumulation, statistics, saving."""

    class_name: str = "LimaProcessingLegacy"
    fifo: FifoParams = FifoParams()
    buffers: BufferParams = BufferParams()
    frame_idx_enabled: bool = False
    """Whether the order of the frames is told by popFrameIdx."""
    photons: PhotonsParams = PhotonsParams()
    pedestal: PedestalParams = PedestalParams()
    mask: CalibrationFileParams = CalibrationFileParams()
    """Pixels that are not 0 in it read 0 and do not count in statistics."""
    flatfield: CalibrationFileParams = CalibrationFileParams()
    """Frames are divided by it."""
    background: CalibrationFileParams = CalibrationFileParams()
    """It is subtracted from frames."""
    max_countrate_protection: CountrateProtectionParams = CountrateProtectionParams()
    geometry: GeometryParams = GeometryParams()
    accumulation: AccumulationParams = AccumulationParams()
    statistics: StatisticsParams = StatisticsParams()
    profiles: ProfilesParams = ProfilesParams()
    taps: TapsParams = TapsParams()
    saving: SavingParams = SavingParams()
    """Processed frames."""
    saving_input: InputSavingParams = InputSavingParams()
    """Frames as they came from the camera, independently of the processed ones."""
    sparse: SparseParams = SparseParams()
    saving_sparse: SparseSavingParams = SparseSavingParams()
    """Of processed frames only the pixels that hold something, for frames of one band."""


class _Builder:
    """Resolves one pipeline, step by step in the order of the flow."""

    def __init__(self, params: LegacyParams, context: BuildContext) -> None:
        self.params = params
        self.context = context
        self.depth = params.accumulation.depth
        self.reshapes = params.geometry != GeometryParams()
        self.convert: ConvertPhotons | None = None
        self.taps: dict[str, Tap] = {}
        self.streams: dict[str, RecordStream] = {}
        self.parts: dict[str, PartRecords] = {}
        self.memories: list[OutputBuffers] = []
        """Of the frames that tasks make, in the order of the flow."""
        self.spare = SpareFrames(context.spare_frames)
        self.files = Files(context, params.to_tree(), self.spare)
        self.marks: Marks | None = None
        """Values of the frames, as far as they are resolved, that are no measurements."""

    def build(self) -> Pipeline:
        params, context = self.params, self.context
        transforms, mask, spec = self._chain()
        joint = self._joint(spec)
        spec = spec if joint is None else joint.spec
        source, available, processed = Counter(), Counter(), Counter()
        inputs = self._input_lanes()
        input_tasks = self._input_reductions(inputs)
        tasks, lanes = self._output(spec, mask)
        if joint is None:
            first = Stage(
                (*input_tasks, *transforms, *tasks),
                (*inputs, *lanes),
                (source, available, processed),
            )
            second = None
        else:
            first = Stage((*input_tasks, *transforms), tuple(inputs), (source, available))
            second = Stage(tuple(tasks), tuple(lanes), (processed,))
        # Only now is it sure that the run can be built.
        for memory in (*self.memories, *([] if joint is None else [joint.totals])):
            memory.reserve()
        return Pipeline(
            input_spec=context.spec,
            output_spec=spec,
            first=first,
            second=second,
            joint=joint,
            taps=self.taps,
            streams=self.streams,
            parts=self.parts,
            counters={
                "nb_frames_source": source,
                "nb_frames_input": available,
                "nb_frames_processed": processed,
                "nb_frames_saved": Saved(self.files.sinks.get("saving"), processed),
                "nb_frames_input_saved": Saved(self.files.sinks.get("saving_input"), available),
                "nb_frames_sparse_saved": Saved(self.files.sinks.get("saving_sparse"), processed),
            },
            queue_frames=params.fifo.nb_fifo_frames,
            files=self.files.names,
            saved=self.files.saved,
            remarks=self._remarks(),
            placement=None if self.reshapes else laid_out(self.convert, context),
            fill=self._fill,
        )

    @property
    def _fill(self) -> float:
        """What is read where processed frames, or parts of them, are missing."""
        return fill_of(self.marks, self.context, as_they_came=not self.memories)

    def _remarks(self) -> tuple[str, ...]:
        told = () if self.convert is None else self.convert.remarks
        return (*told, *of_parts(self.context, tuple(set(self.streams) - set(self.parts))))

    def _chain(self) -> tuple[list[Task], NDArray[Any] | None, FrameSpec]:
        """What is done to each frame, the mask as it lies on the result, and its spec."""
        params, context, spec = self.params, self.context, self.context.spec
        tasks: list[Task] = []
        maps = (params.mask, params.background, params.flatfield)
        corrects = any(one.enabled for one in maps)
        if params.photons.enabled:
            wanted = self._wanted(last=not (corrects or self.reshapes) and self.depth == 1)
            self.convert = conversion(params.photons, context, wanted)
            spec = self.convert.resolve(spec)
            self.marks = self.convert.marks
            tasks.append(self.convert)
            self.memories.append(self.convert.buffers)
        tasks += self._protection(spec)
        place = self._place
        mask = load_map(params.mask, spec, "mask", place)
        background = load_map(params.background, spec, "background", place)
        flatfield = load_map(params.flatfield, spec, "flatfield", place)
        if corrects:
            wanted = self._wanted(last=not self.reshapes and self.depth == 1)
            correct = CorrectPixels(background, flatfield, mask, context.pools, wanted, self.marks)
            spec = self._marked(correct.resolve(spec))
            mask = correct.mask
            tasks.append(correct)
            self.memories.append(correct.buffers)
        if self.convert is not None and self.convert.mask.any():
            mask = self.convert.mask if mask is None else self.convert.mask | mask
        if self.reshapes:
            wanted = self._wanted(last=self.depth == 1)
            reshape = ReshapeImage(params.geometry, context.pools, wanted, self.marks)
            spec = self._marked(reshape.resolve(spec))
            mask = None if mask is None else reshape.mask(mask)
            tasks.append(reshape)
            self.memories.append(reshape.buffers)
        return tasks, mask, spec

    @property
    def _place(self) -> Placement | None:
        """Where frames lie in whole ones, until something reshapes them; None if they are whole."""
        return laid_out(self.convert, self.context) or self.context.placement

    def _marked(self, spec: FrameSpec) -> FrameSpec:
        """Frames are of ``spec`` from here on, and their marks of its type."""
        if self.marks is not None:
            self.marks = self.marks.to(spec.dtype)
        return spec

    def _protection(self, spec: FrameSpec) -> list[Reduction]:
        """What looks for pixels that count too fast: in photons, if words are converted."""
        params, context = self.params.max_countrate_protection, self.context
        if not params.enabled:
            return []
        expo_time_s = context.acquisition.acq.expo_time_s
        protect = ProtectCountrate(params, expo_time_s, context.allowed_commands, self.marks)
        protect.resolve(spec)
        return [protect]

    def _joint(self, spec: FrameSpec) -> Accumulate | None:
        """What sums frames up; None if nothing does."""
        if self.depth == 1:
            return None
        context = self.context
        joint = Accumulate(
            self.depth,
            spec,
            context.deal,
            context.pools,
            self._wanted(last=True),
            context.workers,
            self.marks,
        )
        self._marked(joint.spec)
        self.memories.append(joint.buffers)
        return joint

    def _wanted(self, *, last: bool) -> int:
        """Frames of one task that are alive at the same time, if ``last`` also those kept."""
        params, context = self.params, self.context
        flight = frames_in_flight(context.workers, context.spec.nbytes)
        if not last:
            return flight
        # Without compression the file takes the frames themselves.
        waits = params.saving.enabled and params.saving.compression == "none"
        return params.buffers.nb_frames_buffer + flight + (QUEUE_FRAMES if waits else 0)

    def _input_lanes(self) -> list[Lane]:
        """Lanes of the frames as they came."""
        params, context = self.params, self.context
        buffers = params.buffers
        depth = buffers.nb_input_frames_buffer
        if self._unchanged:
            depth = max(depth, buffers.nb_frames_buffer)
        sampling = params.taps.input_sampling
        hold = self.spare.take(depth)
        tap = self._tap("input_frame", context.spec, depth, sampling, hold=hold)
        lanes = [Lane("input_frame", tap, INPUT)]
        if params.frame_idx_enabled:
            spec = RecordSpec("frame_idx", FRAME_IDX_RECORD)
            stream = RecordStream(spec, buffers.nb_frame_idx_buffer)
            self.streams["frame_idx"] = stream
            lanes.append(Lane("frame_idx", FrameIdxSink(stream, context.share.receiver), INPUT))
        return lanes + dark_lanes(params.photons, params.pedestal, self.convert, context)

    @property
    def _unchanged(self) -> bool:
        """Whether processed frames are those of the camera, and looked at alike."""
        taps = self.params.taps
        return not self.memories and taps.input_sampling == taps.processed_sampling

    def _tap(
        self, name: str, spec: FrameSpec, depth: int, sampling: int, *, hold: bool = False
    ) -> Tap:
        pools = self.context.pools
        pool = pools.pool(name, spec.nbytes)
        room = partial(grow_within, pools, pool, depth + 1)
        tap = Tap(spec, depth, sampling, pool, room, hold=hold)
        self.taps[name] = tap
        return tap

    def _input_reductions(self, lanes: list[Lane]) -> list[Reduction]:
        """Reductions of the frames as they came; adds the lanes they need."""
        params, context = self.params.saving_input, self.context
        if not params.enabled:
            return []
        frames = SavedFrames("input_frame", "saving_input", context.spec, context.nb_expected)
        frames = replace(frames, fields=context.frame_fields, fill=context.fill)
        encode, own = self.files.add(params, frames)
        lanes += own
        return [encode]

    def _output(
        self, spec: FrameSpec, mask: NDArray[Any] | None
    ) -> tuple[list[Reduction], list[Lane]]:
        """Reductions and lanes of the processed frames."""
        params = self.params
        lanes: list[Lane] = []
        if self._unchanged:
            self.taps["frame"] = self.taps["input_frame"]
        else:
            depth = params.buffers.nb_frames_buffer
            tap = self._tap("frame", spec, depth, params.taps.processed_sampling)
            lanes.append(Lane("frame", tap, OUTPUT))
            if self.memories:
                self.memories[-1].make_room = tap.drop_oldest
        place = None if self.reshapes else self._place
        receiver = self.context.share.receiver
        reduced = reduce_regions(params, spec, receiver, mask, self.marks, place)
        self.streams |= reduced.streams
        self.parts = reduced.parts
        lanes += reduced.lanes
        tasks: list[Reduction] = [*reduced.tasks]
        for saving, own in self._savings(spec):
            lanes += own
            tasks.append(saving)
        return tasks, lanes

    def _savings(self, spec: FrameSpec) -> Iterator[tuple[Reduction, list[Lane]]]:
        """What saves processed frames, and the lanes to the files."""
        params, context = self.params, self.context
        expected = context.nb_expected
        frames = SavedFrames(
            "frame",
            "saving",
            spec,
            None if expected is None else -(-expected // self.depth),
            # A sum is of several frames, of which each has its own fields.
            () if self.depth > 1 else context.frame_fields,
            self.marks,
            fill=self._fill,
            collections={} if self.convert is None else {"photon_conversion": self.convert.told},
        )
        if params.saving.enabled:
            yield self.files.add(params.saving, frames)
        if params.saving_sparse.enabled:
            hits = replace(frames, source="sparse", where="saving_sparse")
            place = None if self.reshapes else self._place
            yield self.files.add_sparse(params.saving_sparse, params.sparse, hits, place)


def build(params: LegacyParams, context: BuildContext) -> Pipeline:
    """Resolve the pipeline; nothing is changed outside memory.

    Raises:
        ParamError: a parameter cannot be fulfilled; all paths are those of `LegacyParams`.
    """
    return _Builder(params, context).build()


PLUGIN = PipelinePlugin(
    class_name="LimaProcessingLegacy",
    params=LegacyParams,
    build=build,
    sources=(
        SourceInfo("input_frame", "getInputFrame", "input", "a frame as the camera gave it"),
        SourceInfo("frame", "getFrame", "processed", "a processed frame"),
    ),
    streams=(
        StreamInfo(
            "roi_statistics",
            "popRoiStatistics",
            "nb_roi_statistics",
            "one record per region and frame",
        ),
        StreamInfo(
            "roi_profiles",
            "popRoiProfiles",
            "nb_roi_profiles",
            "one record per profile element and frame",
        ),
        StreamInfo("frame_idx", "popFrameIdx", "", "which frame came next on this receiver"),
    ),
    preload=preload,
)
