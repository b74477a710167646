"""The classic pipeline: correct, reshape, accumulate, reduce, save.

::

    input --> correct_pixels -> reshape_image --[accumulate]--> reduce_rois, project_rois, encode
      |                                                              |          |          |
      +-> input_frame, frame_idx, saving_input                    frame     records     saving
"""

from __future__ import annotations

from functools import partial
from typing import Any

from numpy.typing import NDArray

from lima2_core.data.frame import FrameSpec
from lima2_core.data.record import FRAME_IDX_RECORD, RecordSpec, RecordStream
from lima2_core.errors import ParamError
from lima2_core.flow.executor import batch_frames
from lima2_core.flow.pipeline import INPUT, OUTPUT, Counter, Lane, Pipeline, Stage
from lima2_core.flow.plugin import BuildContext, PipelinePlugin, SourceInfo, StreamInfo
from lima2_core.flow.tap import Tap
from lima2_core.flow.task import Reduction, Transform
from lima2_core.schema import ParamsModel, quantity
from processing.calibration_files import load_map
from processing.params import (
    AccumulationParams,
    CalibrationFileParams,
    CountrateProtectionParams,
    FifoParams,
    GeometryParams,
    ProfilesParams,
    StatisticsParams,
    TapsParams,
)
from processing.pipelines.preload import preload
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5 import Hdf5Sink
from processing.sinks.records import FrameIdxSink, RecordSink
from processing.tasks.accumulate import Accumulate
from processing.tasks.correct_pixels import CorrectPixels
from processing.tasks.encode_chunk import EncodeChunk
from processing.tasks.protect_countrate import ProtectCountrate
from processing.tasks.reduce_rois import ProjectRois, ReduceRois
from processing.tasks.reshape_image import ReshapeImage

_SAVE_QUEUE_BYTES = 2**28
_SAVE_QUEUE_FRAMES = 64


class BufferParams(ParamsModel):
    """How much is kept to be looked at, and first sizes of the record buffers, which grow."""

    nb_frames_buffer: int = quantity("frames", default=100, ge=1)
    """Processed frames kept for getFrame."""
    nb_input_frames_buffer: int = quantity("frames", default=100, ge=1)
    """Input frames kept for getInputFrame."""
    nb_roi_statistics_buffer: int = quantity("frames", default=100, ge=1)
    nb_roi_profiles_buffer: int = quantity("frames", default=100, ge=1)
    nb_frame_idx_buffer: int = quantity("frames", default=100, ge=1)


class LegacyParams(ParamsModel):
    """The classic pipeline: correction, geometry, accumulation, statistics, saving."""

    class_name: str = "LimaProcessingLegacy"
    fifo: FifoParams = FifoParams()
    buffers: BufferParams = BufferParams()
    frame_idx_enabled: bool = False
    """Whether the order of the frames is told by popFrameIdx."""
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
    saving_input: SavingParams = SavingParams(filename_prefix="lima2_input")
    """Frames as they came from the camera, independently of the processed ones."""


class _Builder:
    """Resolves one pipeline, step by step in the order of the flow."""

    def __init__(self, params: LegacyParams, context: BuildContext) -> None:
        self.params = params
        self.context = context
        self.taps: dict[str, Tap] = {}
        self.streams: dict[str, RecordStream] = {}
        self.sinks: list[Hdf5Sink] = []
        self.savings: list[SavingParams] = []
        # Frames alive at the same time: those looked at, and those between two tasks.
        self.buffers = params.buffers.nb_frames_buffer + (context.workers + 2) * batch_frames(
            context.spec.nbytes
        )

    def build(self) -> Pipeline:
        params, context = self.params, self.context
        mask = load_map(params.mask, context.spec, "mask")
        before, mask, spec = self._chain(mask)
        source, available, processed = Counter(), Counter(), Counter()
        inputs = self._input_lanes()
        input_tasks = self._input_reductions(inputs)
        depth = params.accumulation.depth
        if depth == 1:
            reductions, lanes = self._output(spec, mask, len(input_tasks), context.nb_expected)
            first = Stage(
                (*input_tasks, *before, *reductions),
                (*inputs, *lanes),
                (source, available, processed),
            )
            second, joint = None, None
        else:
            joint = Accumulate(depth, spec, context.share, context.pools, self.buffers)
            spec = joint.spec
            expected = None if context.nb_expected is None else -(-context.nb_expected // depth)
            reductions, lanes = self._output(spec, mask, 0, expected)
            first = Stage((*input_tasks, *before), tuple(inputs), (source, available))
            second = Stage(tuple(reductions), tuple(lanes), (processed,))
        return Pipeline(
            input_spec=context.spec,
            output_spec=spec,
            first=first,
            second=second,
            joint=joint,
            taps=self.taps,
            streams=self.streams,
            counters={
                "nb_frames_source": source,
                "nb_frames_input": available,
                "nb_frames_processed": processed,
                "nb_frames_saved": _Saved(self.sinks),
            },
            queue_frames=params.fifo.nb_fifo_frames,
            files=lambda: [name for sink in self.sinks for name in sink.files],
        )

    def _chain(
        self, mask: NDArray[Any] | None
    ) -> tuple[list[Transform], NDArray[Any] | None, FrameSpec]:
        """Transforms of each frame, the mask as it lies on the result, and its spec."""
        params, context, spec = self.params, self.context, self.context.spec
        tasks: list[Transform] = []
        background = load_map(params.background, spec, "background")
        flatfield = load_map(params.flatfield, spec, "flatfield")
        if any(image is not None for image in (mask, background, flatfield)):
            correct = CorrectPixels(background, flatfield, mask, context.pools, self.buffers)
            spec = correct.resolve(spec)
            tasks.append(correct)
        if params.geometry != GeometryParams():
            reshape = ReshapeImage(params.geometry, context.pools, self.buffers)
            spec = reshape.resolve(spec)
            mask = None if mask is None else reshape.mask(mask)
            tasks.append(reshape)
        return tasks, mask, spec

    def _input_lanes(self) -> list[Lane]:
        """Lanes of the frames as they came."""
        params, context = self.params, self.context
        pool = context.pools.pool("looked_at", context.spec.nbytes)
        tap = Tap(
            context.spec,
            params.buffers.nb_input_frames_buffer,
            params.taps.input_sampling,
            pool,
        )
        self.taps["input_frame"] = tap
        lanes = [Lane("input_frame", tap, INPUT)]
        if params.frame_idx_enabled:
            spec = RecordSpec("frame_idx", FRAME_IDX_RECORD)
            stream = RecordStream(spec, params.buffers.nb_frame_idx_buffer)
            self.streams["frame_idx"] = stream
            lanes.append(Lane("frame_idx", FrameIdxSink(stream, context.share.receiver), INPUT))
        return lanes

    def _input_reductions(self, lanes: list[Lane]) -> list[Reduction]:
        """Reductions of the frames as they came; adds the lanes they need."""
        params, context = self.params, self.context
        tasks: list[Reduction] = []
        if params.max_countrate_protection.enabled:
            protect = ProtectCountrate(
                params.max_countrate_protection,
                context.acquisition.acq.expo_time_s,
                context.allowed_commands,
            )
            protect.resolve(context.spec)
            tasks.append(protect)
        if params.saving_input.enabled:
            encode, sink = self._saving(
                params.saving_input, "saving_input", context.spec, context.nb_expected
            )
            lanes.append(Lane("saving_input", sink, len(tasks), _queue_depth(context.spec)))
            tasks.append(encode)
        return tasks

    def _output(
        self, spec: FrameSpec, mask: NDArray[Any] | None, place: int, expected: int | None
    ) -> tuple[list[Reduction], list[Lane]]:
        """Reductions and lanes of the processed frames; ``place`` is that of the first product."""
        params, context = self.params, self.context
        receiver = context.share.receiver
        tap = Tap(
            spec,
            params.buffers.nb_frames_buffer,
            params.taps.processed_sampling,
            context.pools.pool("looked_at", spec.nbytes),
        )
        self.taps["frame"] = tap
        lanes = [Lane("frame", tap, OUTPUT)]
        tasks: list[Reduction] = []
        if params.statistics.enabled and (
            params.statistics.rect_rois or params.statistics.arc_rois
        ):
            tasks.append(ReduceRois(params.statistics, receiver, mask))
        if params.profiles.enabled and params.profiles.rois:
            tasks.append(ProjectRois(params.profiles, receiver, mask))
        capacities = (
            params.buffers.nb_roi_statistics_buffer,
            params.buffers.nb_roi_profiles_buffer,
        )
        for task, capacity in zip(tasks, capacities, strict=False):
            task.resolve(spec)
            assert isinstance(task, ReduceRois | ProjectRois)
            stream = RecordStream(task.records, capacity)
            self.streams[task.stream] = stream
            lanes.append(Lane(task.stream, RecordSink(stream, task.missing), place))
            place += 1
        if params.saving.enabled:
            encode, sink = self._saving(params.saving, "saving", spec, expected)
            lanes.append(Lane("saving", sink, place, _queue_depth(spec)))
            tasks.append(encode)
        return tasks, lanes

    def _saving(
        self, params: SavingParams, where: str, spec: FrameSpec, expected: int | None
    ) -> tuple[EncodeChunk, Hdf5Sink]:
        context = self.context
        # Without a rank from the client each receiver takes its own, so that none overwrites.
        rank = params.filename_rank or context.share.receiver
        params = params.model_copy(update={"filename_rank": rank})
        params.check(where)
        if any(params.path(0) == other.path(0) for other in self.savings):
            raise ParamError(
                "input and processed frames cannot go to files of the same name",
                path=f"{where}.filename_prefix",
            )
        encode = EncodeChunk(params, where)
        encode.resolve(spec)
        metadata = FileMetadata(
            acq_id=context.acq_id,
            detector=context.metadata,
            acquisition=context.acquisition.to_tree(),
            processing=self.params.to_tree(),
        )
        sink = Hdf5Sink(
            params,
            spec,
            metadata,
            expected_rows=expected,
            with_frame_idx=params.include_frame_idx,
        )
        self.sinks.append(sink)
        self.savings.append(params)
        return encode, sink


class _Saved:
    """Frames that are safe in files, as a counter of the pipeline."""

    def __init__(self, sinks: list[Hdf5Sink]) -> None:
        self._sinks = sinks

    @property
    def value(self) -> int:
        return sum(sink.stats().frames_saved for sink in self._sinks)


def _queue_depth(spec: FrameSpec) -> int:
    """Packed frames that may wait for the file."""
    return max(4, min(_SAVE_QUEUE_FRAMES, _SAVE_QUEUE_BYTES // max(1, spec.nbytes)))


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
    preload=partial(preload),
)
