"""Get ready in the background what would delay the first Prepare."""

from __future__ import annotations

import logging
import threading

import numpy as np

log = logging.getLogger(__name__)

_DTYPES = tuple(np.dtype(name) for name in ("uint16", "uint8", "uint32", "float32", "int32"))


def preload() -> None:
    """Import the file libraries, then compile the kernels for the usual pixel types.

    Until a kernel is compiled its numpy version serves; without numba it always does.
    """
    from processing.kernels.compiled import KERNELS
    from processing.kernels.jit import warm_up
    from processing.sinks import hdf5

    hdf5.preload()
    try:
        warm_up(_DTYPES, KERNELS, threading.Event())
    except ImportError:
        log.info("numba is not installed; the numpy versions of the kernels serve")
