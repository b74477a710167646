"""All loops that are worth compiling; import it where `jit.warm_up` is called."""

from __future__ import annotations

from processing.kernels.accumulate import ADD, ADD_MARKED
from processing.kernels.calibration import CORRECT, HIDE, RESTORE
from processing.kernels.hits import COUNT, GATHER
from processing.kernels.marked_moments import MARKED_COLUMNS, MARKED_RUNS
from processing.kernels.moments import COLUMNS, RUNS, SMALL_COLUMNS, SMALL_RUNS

KERNELS = (
    SMALL_RUNS,
    RUNS,
    CORRECT,
    HIDE,
    SMALL_COLUMNS,
    COLUMNS,
    ADD,
    MARKED_RUNS,
    ADD_MARKED,
    RESTORE,
    MARKED_COLUMNS,
    COUNT,
    GATHER,
)
"""The most often wanted first."""
