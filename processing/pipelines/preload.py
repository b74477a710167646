"""Get ready in the background what would delay the first Prepare."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection

from lima2_core.errors import PluginError

log = logging.getLogger(__name__)


_OF_RAW_WORDS = "Jungfrau"
"""The camera whose frames are converted on an OpenCL device."""


def preload(cameras: Collection[str]) -> None:
    """Import the file libraries, then load the compiled kernels for the usual pixel types.

    Until a kernel is there its numpy version serves; without numba it always does. The programs
    of OpenCL are another matter: a Prepare waits for them, and clients do not wait for long.
    """
    from processing.kernels.compiled import KERNELS
    from processing.kernels.fill_cache import DTYPES, fill_apart
    from processing.kernels.jit import warm_up
    from processing.sinks import hdf5

    hdf5.preload()
    if _OF_RAW_WORDS in cameras:
        preload_photons()
    try:
        fill_apart()
        warm_up(DTYPES, KERNELS, threading.Event())
    except ImportError:
        log.info("numba is not installed; the numpy versions of the kernels serve")


def preload_photons() -> None:
    """Build the programs of the conversion for the device that `auto` takes first."""
    from processing.kernels.opencl import devices, photons

    for device in devices.search().devices[:1]:
        try:
            photons.preload(device)
        except PluginError as error:
            log.warning("photons will be computed by another device: %s", error.message)
