"""Raw JUNGFRAU words to photons: 4 megapixels on all cores, by OpenCL and by numpy.

Eight modules of real frames (else of generated ones with the same share of switched pixels), six
maps, int16 photons; once as a stack, once assembled into an image with gaps. The reference is
numpy with all six maps, as in the tests: the photons of each stage, of which each pixel takes its
own; as a stack, with a part of the modules on each core. Three more are shown without a limit, all
of which take the other stages for the few pixels only that are in them: numpy on all cores, the
same in one call, and our own version on all cores. What is moved counts once for each pixel: word,
offset, factor, photons; as much as a copy moves is the most that any way can reach. The ways take
turns; each has its median time. On a machine with other work what needs all cores at once suffers
most.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks import Result, detector_frames, result
from processing.jungfrau.layout import Layout, LayoutParams
from processing.kernels.jungfrau import NumpyPhotons
from processing.kernels.marks import Marks
from processing.kernels.opencl.devices import search
from processing.kernels.opencl.photons import DevicePhotons
from processing.kernels.photon_maps import photon_maps
from processing.kernels.placing import MODULE_COLS, MODULE_ROWS, Placing, stacked

MODULES = 8
PIXELS = MODULES * MODULE_ROWS * MODULE_COLS
ROUNDS = 40
CORES = len(os.sched_getaffinity(0))
THREADS = max(n for n in (1, 2, 4, 8) if n <= CORES)
"""Among which the modules can be dealt out."""
COPY_BYTES = 2**26
MARKS = Marks.of("int16")

Words = NDArray[np.uint16]


def module_frames() -> tuple[str, Words, NDArray[np.float32], NDArray[np.float32]]:
    """What they are, frames of a module, pedestals and gains.

    Shapes: (n, 512, 1024), twice (3, 512, 1024).
    """
    path = detector_frames()
    if path is not None:
        import h5py
        import hdf5plugin  # noqa: F401  registers the filters

        with h5py.File(path) as file:
            return "real frames", file["raw"][()], file["pedestal"][()], file["gain"][()]
    random = np.random.default_rng(1)
    shape = (MODULE_ROWS, MODULE_COLS)
    levels = zip((2400.0, 13500.0, 14000.0), (500.0, -18.0, -1.4), strict=True)
    maps = [
        (random.normal(dark, 50, shape), random.normal(gain, 0.02, shape)) for dark, gain in levels
    ]
    pedestal, gains = (np.stack(each).astype(np.float32) for each in zip(*maps, strict=True))
    adc = random.poisson(2, (20, *shape)) * 500 + 2400
    code = random.choice([0, 1, 3], (20, *shape), p=[0.9988, 0.0011, 0.0001])
    return "generated frames", (code << 14 | adc).astype(np.uint16), pedestal, gains


def whole(maps: NDArray[np.float32], modules: int) -> NDArray[np.float32]:
    """The same maps for so many modules. Shapes: (3, 512, 1024) -> (3, pixels)."""
    return np.concatenate([maps] * modules, axis=1).reshape(3, -1)


class _Converts(Protocol):
    def apply(self, raw: Words, out: NDArray[Any]) -> None: ...


class _Maps:
    """What ways in numpy begin with."""

    def __init__(
        self, pedestal: NDArray[np.float32], gain: NDArray[np.float32], modules: int
    ) -> None:
        self._pedestal = whole(pedestal, modules)
        self._factor = 1 / whole(gain, modules)


class _AllStages(_Maps):
    """The reference: all stages of all pixels, then a choice."""

    def apply(self, raw: Words, out: NDArray[Any]) -> None:
        words = raw.reshape(-1)
        code, adc = words >> 14, (words & 0x3FFF).astype(np.float32)
        stages = [
            (adc - dark) * factor for dark, factor in zip(self._pedestal, self._factor, strict=True)
        ]
        photons = np.select([code == 0, code == 1, code == 3], stages, MARKS.no_value)
        photons[words == 0xC000] = MARKS.saturated
        out.reshape(-1)[...] = np.clip(np.rint(photons), -32768, 32767)


class _FewSwitched(_Maps):
    """Whole arrays as if all were in G0, then the few pixels of the other stages."""

    def apply(self, raw: Words, out: NDArray[Any]) -> None:
        words = raw.reshape(-1)
        adc = words & 0x3FFF
        photons = (adc - self._pedestal[0]) * self._factor[0]
        for code, stage in ((1, 1), (3, 2)):
            at = np.flatnonzero(words >> 14 == code)
            photons[at] = (adc[at] - self._pedestal[stage, at]) * self._factor[stage, at]
        photons[words == 0xC000] = MARKS.saturated
        np.clip(np.rint(photons, out=photons), -32768, 32767, out=photons)
        out.reshape(-1)[...] = photons


class _OnAllCores:
    """A part of the modules on each thread; modules are a multiple of the cores."""

    def __init__(self, make: Callable[[int], _Converts]) -> None:
        self._kernels = [make(MODULES // THREADS) for _ in range(THREADS)]
        self._threads = ThreadPoolExecutor(THREADS)

    def apply(self, raw: Words, out: NDArray[Any]) -> None:
        words = np.array_split(raw.reshape(-1, MODULE_COLS), THREADS)
        parts = np.array_split(out.reshape(-1, MODULE_COLS), THREADS)
        jobs = [
            self._threads.submit(kernel.apply, *job)
            for kernel, *job in zip(self._kernels, words, parts, strict=True)
        ]
        for job in jobs:
            job.result()


class _Copy:
    """Copies on all cores."""

    def __init__(self) -> None:
        self._pairs = [np.ones((2, COPY_BYTES), np.uint8) for _ in range(CORES)]
        self._threads = ThreadPoolExecutor(CORES)

    def __call__(self) -> None:
        list(self._threads.map(lambda pair: np.copyto(pair[1], pair[0]), self._pairs))

    @property
    def nbytes(self) -> int:
        """Read and written."""
        return 2 * COPY_BYTES * CORES


def two_columns() -> Placing:
    """Two columns of four modules."""
    places = [{"row": 550 * (n // 2), "col": 1040 * (n % 2)} for n in range(MODULES)]
    return Layout(LayoutParams.from_tree({"modules": places})).placing()


def _medians(ways: dict[str, Callable[[int], None]]) -> dict[str, float]:
    """Seconds of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 3):
        for name, way in ways.items():
            start = time.perf_counter()
            way(number)
            if number >= 3:  # the first rounds warm up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> list[Result]:
    """Measure float and 16-bit maps, as a stack and as an image."""
    device = search().best()
    if device is None:
        print(f"No conversion by OpenCL: {search().reason()}", file=sys.stderr)
        return []
    kind, frames, pedestal, gain = module_frames()
    # Different modules in each frame, as the detector has them; more than the caches hold.
    count = len(frames)
    raws = [
        np.ascontiguousarray(frames[[(first + n) % count for n in range(MODULES)]])
        for first in (0, 5, 10, 15)
    ]
    stack, image = stacked((1, MODULES * MODULE_ROWS, MODULE_COLS)), two_columns()
    maps = {
        bits: photon_maps(
            whole(pedestal, MODULES), whole(gain, MODULES), None, MARKS, narrow=bits == 16
        )
        for bits in (32, 16)
    }

    def way(kernel: _Converts, placing: Placing) -> Callable[[int], None]:
        outs = [np.zeros(placing.shape, MARKS.dtype) for _ in range(3)]
        return lambda number: kernel.apply(raws[number % len(raws)], outs[number % len(outs)])

    def ours(modules: int) -> NumpyPhotons:
        parts = photon_maps(whole(pedestal, modules), whole(gain, modules), None, MARKS)
        return NumpyPhotons(parts, stacked((1, modules * MODULE_ROWS, MODULE_COLS)))

    copy = _Copy()
    ways: dict[str, Callable[[int], None]] = {
        "numpy": way(_OnAllCores(partial(_AllStages, pedestal, gain)), stack),
        "numpy_few_switched": way(_OnAllCores(partial(_FewSwitched, pedestal, gain)), stack),
        "numpy_few_switched_in_one_call": way(_FewSwitched(pedestal, gain, MODULES), stack),
        "our_numpy": way(_OnAllCores(ours), stack),
        "copy": lambda number: copy(),
    }
    for bits, ready in maps.items():
        for name, placing in (("stack", stack), ("image", image)):
            ways[f"{bits} {name}"] = way(DevicePhotons(device, ready, placing), placing)
    seconds = _medians(ways)

    bandwidth = copy.nbytes / seconds["copy"] / 1e9
    results = []
    for bits, faster, share in ((32, 3.5, 0.35), (16, 8.0, 0.6)):
        moved = PIXELS * (2 + 2 * bits // 8 + 2)
        for name in ("stack", "image"):
            took = seconds[f"{bits} {name}"]
            title = f"conversion.{kind}.{bits}-bit maps.{name}"
            references = (
                "numpy",
                "numpy_few_switched",
                "numpy_few_switched_in_one_call",
                "our_numpy",
            )
            results += [
                result(
                    f"{title}.vs_{other}",
                    1 / took,
                    "frames/s",
                    reference=1 / seconds[other],
                    at_least=faster if other == "numpy" else None,
                )
                for other in references
            ]
            results.append(
                result(
                    f"{title}.vs_copy",
                    moved / took / 1e9,
                    "GB/s",
                    reference=bandwidth,
                    at_least=share,
                )
            )
    return results
