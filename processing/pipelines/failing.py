"""The pipeline that fails when told to; clients test their error handling with it."""

from __future__ import annotations

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.errors import ParamError, PipelineError
from lima2_core.flow.pipeline import Counter, Pipeline, Stage
from lima2_core.flow.plugin import BuildContext, PipelinePlugin
from lima2_core.flow.task import Reduction
from lima2_core.schema import ParamsModel, quantity


class FailingParams(ParamsModel):
    """The pipeline that fails when told to."""

    class_name: str = "LimaProcessingFailing"
    failed_on_prepare: bool = False
    """Prepare is refused."""
    failed_on_activate: bool = False
    """Start succeeds, and the receiver goes to fault at once."""
    failed_frame_idx: int = quantity("frames", default=0, ge=0)
    """Frame whose processing fails; 0 = none."""


class FailOnFrame(Reduction):
    """Fails on one frame."""

    name = "fail_on_frame"

    def __init__(self, idx: int) -> None:
        self._idx = idx

    def resolve(self, spec: FrameSpec) -> None:
        """Take any frame."""

    def process(self, frame: Frame) -> None:
        if frame.idx == self._idx:
            raise PipelineError(f"frame {frame.idx} was to fail", frame_idx=frame.idx)


def build(params: FailingParams, context: BuildContext) -> Pipeline:
    """Resolve the pipeline.

    Raises:
        ParamError: ``failed_on_prepare`` is set.
    """
    if params.failed_on_prepare:
        raise ParamError("Prepare was to fail", path="failed_on_prepare")

    def activate() -> None:
        if params.failed_on_activate:
            raise PipelineError("activation was to fail")

    source = Counter()
    tasks = (FailOnFrame(params.failed_frame_idx),) if params.failed_frame_idx else ()
    return Pipeline(
        input_spec=context.spec,
        output_spec=context.spec,
        first=Stage(tasks, counters=(source,)),
        counters={"nb_frames_source": source},
        activate=activate,
    )


PLUGIN = PipelinePlugin(class_name="LimaProcessingFailing", params=FailingParams, build=build)
