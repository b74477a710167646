"""JUNGFRAU on a graphics card: words to it, assembly and conversion there, photons back.

Eight modules make an image with gaps. Several threads work at a time, as the chain of a receiver
does, so that copies go both ways while others convert. The limit is what the same threads reach
when they only copy as many bytes to the card and back.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import Result, result
from benchmarks.bench_conversion import MARKS, MODULES, module_frames, two_columns, whole
from lima2_core.worker import Worker
from processing.kernels.opencl.devices import Device, load_opencl, search
from processing.kernels.opencl.photons import DevicePhotons
from processing.kernels.photon_maps import photon_maps

LANES = 4
SECONDS = 4.0
GOAL_HZ = 2000.0
ANY_DEVICE = "LIMA2_BENCH_ANY_DEVICE"
"""If this is set, a CPU stands for a card, to try the benchmark itself."""


def card() -> Device | None:
    """The card to measure."""
    found = search()
    device = found.best("gpu")
    if device is None and os.environ.get(ANY_DEVICE):
        cpu = found.best()
        return None if cpu is None else replace(cpu, kind="gpu", shares_memory=False)
    return device


def frames_hz(make: Callable[[], Callable[[int], None]]) -> float:
    """Frames per second of all lanes together; each has its own ``make()``."""
    done = [0] * LANES
    begun_s = time.perf_counter()

    def work(number: int) -> None:
        way = make()
        way(0)
        while time.perf_counter() < begun_s + SECONDS:
            way(done[number])
            done[number] += 1

    workers = [Worker(f"lane-{number}", partial(work, number)) for number in range(LANES)]
    for worker in workers:
        worker.join(SECONDS + 60.0)
    return sum(done) / (time.perf_counter() - begun_s)


def main() -> list[Result]:
    """Measure float and 16-bit maps."""
    device = card()
    if device is None:
        print(f"No graphics card: {search().reason('gpu')}", file=sys.stderr)
        return []
    _, frames, pedestal, gain = module_frames()
    raw = np.ascontiguousarray(frames[[n % len(frames) for n in range(MODULES)]])
    placing = two_columns()
    cl = load_opencl()

    def copies() -> Callable[[int], None]:
        queue = cl.CommandQueue(device.context)
        out = np.zeros(placing.shape, MARKS.dtype)
        there: Any = cl.Buffer(device.context, cl.mem_flags.READ_WRITE, max(raw.nbytes, out.nbytes))

        def copy(number: int) -> None:
            cl.enqueue_copy(queue, there, raw, is_blocking=False)
            cl.enqueue_copy(queue, out, there, is_blocking=True)

        return copy

    limit_hz = frames_hz(copies)
    results = []
    for bits in (32, 16):
        maps = photon_maps(
            whole(pedestal, MODULES), whole(gain, MODULES), None, MARKS, narrow=bits == 16
        )
        kernel = DevicePhotons(device, maps, placing, by_pixel=True)

        def converts(kernel: DevicePhotons = kernel) -> Callable[[int], None]:
            out = np.zeros(placing.shape, MARKS.dtype)
            return lambda number: kernel.apply(raw, out)

        name = f"graphics.{bits}-bit maps"
        found_hz = frames_hz(converts)
        results += [
            result(f"{name}.4_megapixel_frames", found_hz, "frames/s", at_least=GOAL_HZ),
            result(f"{name}.vs_copy", found_hz, "frames/s", reference=limit_hz),
        ]
    return results
