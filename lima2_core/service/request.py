"""What one acquisition of a receiver was asked for, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lima2_core.camera.api import SourceRequest
from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import AcquisitionParams
from lima2_core.data.frame import FrameSpec
from lima2_core.flow.plugin import PipelinePlugin
from lima2_core.ids import AcqId
from lima2_core.schema import ParamsModel


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """The complete parameters of one run on one receiver (P9)."""

    acq_id: AcqId
    acquisition: AcquisitionParams
    pipeline: PipelinePlugin
    processing: ParamsModel
    share: Share
    metadata: Mapping[str, Any] = field(default_factory=dict)
    deferred: bool = False
    """Whether frames are only collected until `Run.process` is called."""

    @property
    def source(self) -> SourceRequest:
        """The part of it that the camera needs."""
        return SourceRequest(self.acq_id, self.acquisition, self.share)


@dataclass(frozen=True, slots=True)
class RunParams:
    """The parameter sets of a run: they stay as they are whatever is asked later (G16)."""

    requested: AcquisitionParams
    processing: ParamsModel
    input_spec: FrameSpec
    output_spec: FrameSpec
    share: Share
    nb_expected: int | None
    workers: int
