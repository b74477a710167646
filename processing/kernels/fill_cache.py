"""Compile the kernels in a process of their own, so that the servers only have to load them.

Compiling takes seconds of pure Python, during which the threads of a server would hardly get the
interpreter. ``python -m processing.kernels.fill_cache`` does it once per machine and version.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import numpy as np

from processing.kernels import hit_loops, loops, marked_loops
from processing.kernels.compiled import KERNELS
from processing.kernels.jit import warm_up

log = logging.getLogger(__name__)

DTYPES = tuple(
    np.dtype(name) for name in ("uint16", "uint8", "uint32", "float32", "int32", "int16")
)
"""Pixel types whose kernels are compiled beforehand, the usual ones first."""

_PR_SET_PDEATHSIG = 1
_NICE = 10


def fill_apart() -> None:
    """Fill the cache in a child process of low priority, and wait for it.

    The child ends with the thread that calls this. Once it was filled there is nothing to do.
    """
    if any(stamp.exists() for stamp in _stamps()):
        return
    command = [sys.executable, "-m", "processing.kernels.fill_cache", str(os.getpid())]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        log.warning("kernels could not be compiled beforehand: %s", reason)


def _stamps() -> list[Path]:
    """Files that say that the cache was filled by these kernels, here or in the user's cache."""
    source = Path(loops.__file__)
    times = [Path(str(one.__file__)).stat().st_mtime_ns for one in (loops, marked_loops, hit_loops)]
    state = f"{sys.version} {version('numba')} {times} {DTYPES}"
    name = f"lima2_kernels-{hashlib.sha256(state.encode()).hexdigest()[:16]}.done"
    return [source.parent / "__pycache__" / name, Path.home() / ".cache" / "lima2" / name]


def _leave_stamp() -> None:
    for stamp in _stamps():
        try:
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
        except OSError:
            continue  # a place where nothing can be written
        return


def main(parent: int) -> int:
    """Fill the cache, unless ``parent`` is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1
    os.nice(_NICE)
    warm_up(DTYPES, KERNELS, threading.Event())
    _leave_stamp()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else os.getppid()))
