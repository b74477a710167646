"""The classic pipeline with a gate, at which a test holds frames for as long as it wants."""

import threading
from dataclasses import replace
from pathlib import Path

from lima2_core.flow.task import Reduction
from lima2_core.schema import ParamsModel
from processing.pipelines.legacy import PLUGIN as LEGACY
from processing.pipelines.legacy import LegacyParams, build

CLASS_NAME = "LimaProcessingGated"
GROUP = "processing.gate"
LIMIT_S = 60.0
"""Nothing waits longer, whatever becomes of the test."""


class GateParams(ParamsModel):
    """Which frames wait, and for what."""

    file: str = ""
    """They wait as long as there is this file."""
    first_frame: int = 0
    """The first one; those before it are processed and saved."""


class GatedParams(LegacyParams):
    """The classic pipeline with a gate."""

    class_name: str = CLASS_NAME
    gate: GateParams = GateParams()


class Gate(Reduction):
    """Keeps a frame, and all that come after it, from being processed.

    Large frames only: small ones are processed many at a time, and wait for each other.
    """

    name = "gate"

    def __init__(self, params):
        self._file = Path(params.file)
        self._first = params.first_frame
        self._pause = threading.Event()

    def resolve(self, spec):
        """Take any frame."""

    def process(self, frame):
        if frame.idx >= self._first:
            for _ in range(round(LIMIT_S / 0.01)):
                if not self._file.exists():
                    break
                self._pause.wait(0.01)


def build_gated(params, context):
    """Resolve the classic pipeline, with the gate before all else."""
    pipeline = build(params, context)
    if not params.gate.file:
        return pipeline
    first = replace(pipeline.first, tasks=(Gate(params.gate), *pipeline.first.tasks))
    return replace(pipeline, first=first)


PLUGIN = replace(LEGACY, class_name=CLASS_NAME, params=GatedParams, build=build_gated)
