"""All loops that are worth compiling; import it where `jit.warm_up` is called."""

from __future__ import annotations

from processing.kernels.accumulate import ADD
from processing.kernels.calibration import CORRECT, HIDE
from processing.kernels.moments import COLUMNS, RUNS, SMALL_COLUMNS, SMALL_RUNS

KERNELS = (SMALL_RUNS, RUNS, CORRECT, HIDE, SMALL_COLUMNS, COLUMNS, ADD)
"""The most often wanted first."""
