"""Programs, built once per device and set of options."""

from __future__ import annotations

import threading
from importlib import resources
from typing import Any

from lima2_core.errors import PluginError
from processing.kernels.opencl.devices import Device, load_opencl

_KEPT = 32
"""Programs kept; each is some 100 kB."""


class _Programs:
    """A cache in memory. Drivers have one on disk, which serves the next process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._built: dict[tuple[int, str, tuple[str, ...]], Any] = {}

    def get(self, device: Device, source: str, options: tuple[str, ...]) -> Any:
        key = (id(device), source, options)
        with self._lock:
            program = self._built.get(key)
            if program is None:
                program = _build(device, source, options)
                while len(self._built) >= _KEPT:
                    self._built.pop(next(iter(self._built)))
                self._built[key] = program
            return program


def program(device: Device, source: str, options: tuple[str, ...] = ()) -> Any:
    """The program of the file ``source`` of this package, built for ``device``.

    Raises:
        PluginError: the driver cannot build it.

    Threads: any.
    """
    return _PROGRAMS.get(device, source, options)


def _build(device: Device, source: str, options: tuple[str, ...]) -> Any:
    cl = load_opencl()
    text = (resources.files("processing.kernels.opencl") / source).read_text(encoding="utf-8")
    try:
        return cl.Program(device.context, text).build(options=list(options))
    except (cl.Error, RuntimeError) as error:
        raise PluginError(
            f"{device.name} ({device.driver}) cannot build {source}: {error}", name=source
        ) from error


_PROGRAMS = _Programs()
