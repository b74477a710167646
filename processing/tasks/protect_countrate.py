"""Look for pixels that count too fast, and act."""

from __future__ import annotations

import logging
import math
import shutil
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.errors import ParamError, PipelineError
from lima2_core.flow.task import Reduction
from processing.kernels.marks import Marks
from processing.params import CountrateProtectionParams

log = logging.getLogger(__name__)

_PATH = "max_countrate_protection"
_BLOCK = 65536
"""Pixels looked at at once: they stay in the cache for the second look."""
COMMAND_LIMIT_S = 10.0
"""How long the command may take."""


class ProtectCountrate(Reduction):
    """Compare the largest pixel with ``max_countrate`` x exposure; run a command, end the run.

    Commands come from clients, so only those that the installation allows are run, without a
    shell and once per acquisition. A command that fails ends the run in any case, as then nothing
    protects the detector.

    Args:
        marks: of the frames, if some of their values are no measurements: pixels without value do
            not count, saturated ones are above any limit.
    """

    name = "protect_countrate"

    def __init__(
        self,
        params: CountrateProtectionParams,
        expo_time_s: float,
        allowed_commands: Sequence[str],
        marks: Marks | None = None,
    ) -> None:
        self._saturated = None if marks is None else marks.saturated
        self._params = params
        self._limit = params.max_countrate * expo_time_s
        self._allowed = allowed_commands
        self._fired = False
        self._lock = threading.Lock()

    def resolve(self, spec: FrameSpec) -> None:
        marked = self._saturated is not None
        self._ignores = self._params.ignore_max_value and (marked or spec.dtype.kind in "iu")
        command = self._params.command
        if command and command not in self._allowed:
            allowed = ", ".join(self._allowed) or "none"
            raise ParamError(
                f"{command!r} is not allowed here; the property allowed_commands of the receiver "
                f"names: {allowed}",
                path=f"{_PATH}.command",
            )
        if command and shutil.which(command) is None:
            raise ParamError(
                f"{command!r} is no program on this computer; give the path of one that is "
                "installed and may be executed",
                path=f"{_PATH}.command",
            )

    def process(self, frame: Frame) -> float:
        highest = _highest(frame.data)
        if self._saturated is not None and highest == self._saturated:
            highest = math.inf
        if self._ignores and highest > self._limit and highest in (math.inf, _top(frame.data)):
            highest = _highest_but_max(frame.data)
        if highest > self._limit:
            self._protect(frame, highest)
        return highest

    def _protect(self, frame: Frame, highest: float) -> None:
        with self._lock:
            first, self._fired = not self._fired, True
        full = self._saturated is not None and math.isinf(highest)
        counted = "is saturated" if full else f"counted {highest:g}"
        found = f"a pixel {counted}, more than the {self._limit:g} allowed in an exposure"
        if first:
            log.warning("frame %d: %s", frame.idx, found)
            if self._params.command:
                self._run_command()
        if self._params.abort_on_protection:
            raise PipelineError(
                f"{found}; take beam away, or raise max_countrate",
                frame_idx=frame.idx,
                highest=_highest(frame.data),
                limit=self._limit,
            )

    def _run_command(self) -> None:
        command = [self._params.command, *self._params.args]
        try:
            subprocess.run(command, timeout=COMMAND_LIMIT_S, check=True, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError) as error:
            raise PipelineError(
                f"the command that protects the detector failed: {error}"
            ) from error


def _highest(pixels: NDArray[Any]) -> float:
    """The largest pixel; one that is no number counts as none."""
    if pixels.dtype.kind == "f":
        return float(np.fmax.reduce(pixels, axis=None))
    return float(pixels.max())


def _top(pixels: NDArray[Any]) -> float:
    """The largest value of the type."""
    return math.inf if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)


def _highest_but_max(pixels: NDArray[Any]) -> float:
    """The largest pixel below the largest value of its type; 0 if there is none.

    Of integers, one more turns the largest value into the smallest: two fast passes instead of a
    masked one.
    """
    flat = pixels.reshape(-1)
    if pixels.dtype.kind == "f":
        return float(np.max(flat, where=np.isfinite(flat), initial=0.0))
    limits = np.iinfo(pixels.dtype)
    turned = np.empty(min(_BLOCK, flat.size), pixels.dtype)
    highest = int(limits.min)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        above = turned[: block.size]
        np.add(block, pixels.dtype.type(1), out=above)
        highest = max(highest, int(above.max()))
    return float(highest - 1) if highest > limits.min else 0.0
