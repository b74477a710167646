"""Look for pixels that count too fast, and act."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Sequence

import numpy as np

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.errors import ParamError, PipelineError
from lima2_core.flow.task import Reduction
from processing.params import CountrateProtectionParams

log = logging.getLogger(__name__)

_PATH = "max_countrate_protection"


class ProtectCountrate(Reduction):
    """Compare the largest pixel with ``max_countrate`` x exposure; run a command, end the run.

    Commands come from clients, so only those that the installation allows are run, without a
    shell and once per acquisition.
    """

    name = "protect_countrate"

    def __init__(
        self,
        params: CountrateProtectionParams,
        expo_time_s: float,
        allowed_commands: Sequence[str],
    ) -> None:
        self._params = params
        self._limit = params.max_countrate * expo_time_s
        self._allowed = allowed_commands
        self._fired = False
        self._lock = threading.Lock()

    def resolve(self, spec: FrameSpec) -> None:
        self._ignored = (
            np.iinfo(spec.dtype).max
            if self._params.ignore_max_value and spec.dtype.kind in "iu"
            else None
        )
        command = self._params.command
        if command and command not in self._allowed:
            allowed = ", ".join(self._allowed) or "none"
            raise ParamError(
                f"{command!r} is not allowed here; the property allowed_commands of the receiver "
                f"names: {allowed}",
                path=f"{_PATH}.command",
            )
        if command and not os.access(command, os.X_OK):
            raise ParamError(f"{command!r} is no program", path=f"{_PATH}.command")

    def process(self, frame: Frame) -> float:
        highest = frame.data.max()
        if self._ignored is not None and highest == self._ignored:
            highest = frame.data.max(where=frame.data != self._ignored, initial=0)
        if highest > self._limit:
            self._protect(frame, float(highest))
        return float(highest)

    def _protect(self, frame: Frame, highest: float) -> None:
        with self._lock:
            first, self._fired = not self._fired, True
        if first:
            log.warning(
                "frame %d: a pixel counted %g, more than the %g allowed",
                frame.idx,
                highest,
                self._limit,
            )
            if self._params.command:
                command = [self._params.command, *self._params.args]
                subprocess.run(command, timeout=10.0, check=False, stdin=subprocess.DEVNULL)
        if self._params.abort_on_protection:
            raise PipelineError(
                f"a pixel counted {highest:g}, more than the {self._limit:g} allowed in one "
                "exposure; take beam away, or raise max_countrate",
                frame_idx=frame.idx,
                highest=highest,
                limit=self._limit,
            )
