"""Get ready in the background what would delay the first Prepare."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)


def preload() -> None:
    """Import the file libraries, then load the compiled kernels for the usual pixel types.

    Until a kernel is there its numpy version serves; without numba it always does.
    """
    from processing.kernels.compiled import KERNELS
    from processing.kernels.fill_cache import DTYPES, fill_apart
    from processing.kernels.jit import warm_up
    from processing.sinks import hdf5

    hdf5.preload()
    try:
        fill_apart()
        warm_up(DTYPES, KERNELS, threading.Event())
    except ImportError:
        log.info("numba is not installed; the numpy versions of the kernels serve")
