"""Which device computes: one that can really build and run a kernel.

A driver may list a device and yet be unable to build anything for it (an old PoCL on a new CPU),
so a device counts only once it has run a small kernel. Importing OpenCL takes a while and happens
with the first question.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lima2_core.errors import PluginError

Kind = Literal["gpu", "cpu"]
_COUNT = 64
_TRIAL = """
__kernel void trial(__global int *out) { out[get_global_id(0)] = 2 * get_global_id(0) + 1; }
"""


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """A device that works, with its context; it lives as long as the process."""

    name: str
    driver: str
    """Platform and version."""
    kind: Kind
    context: Any
    shares_memory: bool
    """Whether it computes in the memory of the host, so that nothing need be copied."""


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, best first, and why the others do not serve."""

    devices: tuple[Device, ...]
    refused: tuple[str, ...]

    def best(self, kind: Kind | None = None) -> Device | None:
        """The first device of ``kind``, or of any; None if there is none."""
        fitting = (device for device in self.devices if kind in (None, device.kind))
        return next(fitting, None)

    def reason(self, kind: Kind | None = None) -> str:
        """Why there is no device of ``kind``."""
        wanted = {"gpu": "graphics card", "cpu": "CPU", None: "device"}[kind]
        others = "; ".join(self.refused) or "none is listed"
        return f"no {wanted} can build an OpenCL kernel: {others}"


class _Searched:
    """The search of this process; devices do not come and go while it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._result: Search | None = None

    def result(self) -> Search:
        with self._lock:
            if self._result is None:
                self._result = _search()
            return self._result


def load_opencl() -> Any:
    """The module pyopencl.

    Raises:
        PluginError: it is not installed, or there is no OpenCL on this computer.
    """
    try:
        return importlib.import_module("pyopencl")
    except (ImportError, OSError) as error:
        raise PluginError(
            f"pyopencl does not load: {error}; pip install 'lima2-suite[opencl]', and a driver "
            "(Debian: pocl-opencl-icd)",
            name="pyopencl",
        ) from error


def search() -> Search:
    """All devices of this computer, tried once: graphics cards first.

    Threads: any.
    """
    return _SEARCHED.result()


def _search() -> Search:
    try:
        cl = load_opencl()
    except PluginError as error:
        return Search((), (error.message,))
    devices: list[Device] = []
    refused: list[str] = []
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        return Search((), (f"no driver is installed ({error}); Debian: pocl-opencl-icd",))
    for platform in platforms:
        try:
            found = platform.get_devices()
        except cl.Error as error:
            refused.append(f"{platform.name}: {error}")
            continue
        for handle in found:
            name = handle.name.strip()
            driver = f"{platform.name.strip()}, {platform.version.strip()}"
            try:
                context = cl.Context([handle])
                _run_trial(cl, context)
            # pyopencl raises RuntimeError where a build fails.
            except (cl.Error, RuntimeError) as error:
                refused.append(f"{name} ({driver}): {_first_line(error)}")
                continue
            is_cpu = bool(handle.type & cl.device_type.CPU)
            devices.append(Device(name, driver, "cpu" if is_cpu else "gpu", context, is_cpu))
    devices.sort(key=lambda device: device.kind == "cpu")
    return Search(tuple(devices), tuple(refused))


def _run_trial(cl: Any, context: Any) -> None:
    """Build a small kernel and see that it computes.

    Raises:
        RuntimeError: it does not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what compilers remark does not matter here
        program = cl.Program(context, _TRIAL).build()
    queue = cl.CommandQueue(context)
    result = np.zeros(_COUNT, np.int32)
    buffer = cl.Buffer(context, cl.mem_flags.WRITE_ONLY, result.nbytes)
    program.trial(queue, (_COUNT,), None, buffer)
    cl.enqueue_copy(queue, result, buffer)
    queue.finish()
    if not np.array_equal(result, 2 * np.arange(_COUNT) + 1):
        raise RuntimeError("a kernel runs, and gives wrong numbers")


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:200]


_SEARCHED = _Searched()
