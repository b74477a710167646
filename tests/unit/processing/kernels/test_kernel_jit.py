from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from processing.kernels import loops
from processing.kernels.accumulate import add_into, choose_add
from processing.kernels.jit import Accelerated, Argument, warm_up

ROOT = Path(__file__).parents[4]
BYTE = np.dtype(np.uint8)


def adder() -> Accelerated:
    def arguments(dtype: np.dtype[Any]) -> tuple[Argument, ...] | None:
        if dtype != BYTE:
            return None
        return (Argument(np.dtype(np.uint32), 1, written=True), Argument(dtype, 1))

    return Accelerated(loops.add, arguments)


def test_nothing_is_compiled_before_warm_up_and_numpy_serves():
    kernel = adder()

    assert kernel.compiled(BYTE) is None
    assert choose_add(np.dtype(np.uint8), np.dtype(np.int16)) is add_into


def test_warm_up_makes_the_versions_that_exist():
    kernel = adder()

    warm_up([BYTE, np.dtype(np.float64)], [kernel], threading.Event())

    version = kernel.compiled(BYTE)
    assert version is not None
    total = np.ones(3, np.uint32)
    version(total, np.array([1, 2, 255], np.uint8))
    assert total.tolist() == [2, 3, 256]
    assert kernel.compiled(np.dtype(np.float64)) is None


def test_a_second_warm_up_keeps_the_versions():
    kernel = adder()
    warm_up([BYTE], [kernel], threading.Event())
    version = kernel.compiled(BYTE)

    warm_up([BYTE], [kernel], threading.Event())

    assert kernel.compiled(BYTE) is version


def test_a_wrong_argument_is_an_error_and_not_a_compilation():
    kernel = adder()
    warm_up([BYTE], [kernel], threading.Event())
    version = kernel.compiled(BYTE)
    assert version is not None

    with pytest.raises(TypeError, match="No matching definition"):
        version(np.ones(3, np.uint32), np.ones(3, np.complex128))


def test_a_stopped_warm_up_compiles_nothing():
    kernel = adder()
    stop = threading.Event()
    stop.set()

    warm_up([BYTE], [kernel], stop)
    kernel.compile(BYTE, stop)

    assert kernel.compiled(BYTE) is None


def test_importing_the_kernels_does_not_import_numba():
    program = (
        "import sys, processing.kernels.compiled, processing.kernels.regions,"
        "processing.kernels.profiles, processing.kernels.binning, processing.kernels.geometry\n"
        "sys.exit('numba' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=25).returncode == 0


class ReleasingEvent(threading.Event):
    """Lets a lock go as soon as somebody waits for it, and notes what was compiled by then."""

    def __init__(self, lock: IO[str], kernel: Accelerated) -> None:
        super().__init__()
        self.lock = lock
        self.kernel = kernel
        self.compiled_at_wait: list[bool] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.compiled_at_wait.append(self.kernel.compiled(BYTE) is not None)
        self.lock.close()
        return self.is_set()


def test_the_cache_is_left_alone_while_another_process_writes_to_it():
    import numba

    folder = Path(numba.njit(cache=True)(loops.add).stats.cache_path)
    kernel = adder()
    lock = (folder / "lima2_kernels.lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    event = ReleasingEvent(lock, kernel)

    warm_up([BYTE], [kernel], event)

    assert event.compiled_at_wait == [False]
    assert kernel.compiled(BYTE) is not None


def test_two_processes_may_warm_up_at_the_same_time(tmp_path: Path):
    program = (
        "import threading, numpy as np\n"
        "from processing.kernels.accumulate import ADD\n"
        "from processing.kernels.jit import warm_up\n"
        "dtypes = [np.dtype(t) for t in {types}]\n"
        "warm_up(dtypes, [ADD], threading.Event())\n"
        "for dtype in dtypes:\n"
        "    total = np.zeros(2, np.uint32)\n"
        "    ADD.compiled(dtype)(total, np.array([1, 200], dtype))\n"
        "    assert total.tolist() == [1, 200], dtype\n"
    )
    orders = [["uint8", "uint16"], ["uint16", "uint8"]]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program.format(types=order)],
            cwd=ROOT,
            env={"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )
        for order in orders * 2
    ]

    assert [process.wait(timeout=30) for process in processes] == [0] * 4
    # One file per version: no number of the cache was used twice.
    assert len(list(tmp_path.glob("*/loops.add*.nbc"))) == 2
