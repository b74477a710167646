"""The classic pipeline against a bare loop of the same work, and against the usual way to save.

Two regions of 256 x 128 and saving with bshuf_lz4 of 2048 x 2048 frames. The bare loop calls the
same kernel and codec on as many threads and writes chunks directly; the usual way is one thread
that assigns frames to an h5py dataset with the hdf5plugin filter. The three take turns.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import Result, result
from benchmarks.frames import ListCamera, photons_16_bit, simulated_8_bit
from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import AcquisitionParams
from lima2_core.data.geometry import Roi
from lima2_core.data.memory import PoolSet
from lima2_core.ids import AcqId
from lima2_core.service.request import PrepareRequest
from lima2_core.service.run import Run, RunHooks, plan_run
from lima2_core.worker import Worker
from processing.codecs import CODECS
from processing.kernels.regions import ROI_RECORD, RegionStatistics
from processing.pipelines import legacy

ROUNDS = 5
RECTS = (Roi(900, 900, 128, 256), Roi(300, 400, 128, 256))
WORKERS = len(os.sched_getaffinity(0))


def classic(images: Sequence[NDArray[Any]], nb_frames: int, folder: Path) -> float:
    """Seconds for ``nb_frames`` through the classic pipeline into files."""
    params = legacy.LegacyParams.from_tree(
        {
            "fifo": {"nb_fifo_frames": 100},
            "statistics": {
                "enabled": True,
                "rect_rois": [
                    {
                        "topleft": {"x": roi.col, "y": roi.row},
                        "dimensions": {"x": roi.cols, "y": roi.rows},
                    }
                    for roi in RECTS
                ],
            },
            "saving": {
                "enabled": True,
                "base_path": str(folder),
                "nb_frames_per_file": nb_frames,
                "file_exists_policy": "overwrite",
            },
        }
    )
    pools = PoolSet(2**31)
    request = PrepareRequest(
        AcqId("bench"), AcquisitionParams(), legacy.PLUGIN, params, Share(), {}
    )
    plan = plan_run(request, ListCamera(images, nb_frames), pools, WORKERS)
    done = threading.Event()
    errors: list[Exception] = []
    hooks = RunHooks(
        acquired=lambda run, error: None,
        failed=lambda run, error: errors.append(error),
        processed=lambda run: done.set(),
    )
    run = Run(plan, pools, hooks)
    start = time.perf_counter()
    run.start()
    done.wait()
    elapsed_s = time.perf_counter() - start
    run.join(10)
    if errors:
        raise errors[0]
    assert run.progress()["nb_frames_saved"] == nb_frames
    return elapsed_s


def bare_loop(images: Sequence[NDArray[Any]], nb_frames: int, folder: Path) -> float:
    """Seconds for the same work with nothing around it."""
    import h5py

    codec = CODECS["bshuf_lz4"]
    shape = images[0].shape
    kernel = RegionStatistics(RECTS, [], shape, images[0].dtype)
    turn = iter(range(nb_frames))
    lock = threading.Lock()
    with h5py.File(folder / "bare.h5", "w") as file:
        dataset = file.create_dataset(
            "data",
            (nb_frames, *shape[1:]),
            images[0].dtype,
            **_creation((1, *shape[1:])),
        )

        def work() -> None:
            records = np.empty(len(RECTS), ROI_RECORD)
            while True:
                with lock:
                    idx = next(turn, None)
                if idx is None:
                    return
                image = images[idx % len(images)]
                kernel.fill(image, records)
                dataset.id.write_direct_chunk((idx, 0, 0), codec.encode(image))

        start = time.perf_counter()
        workers = [Worker(f"bare-{n}", work) for n in range(WORKERS)]
        for worker in workers:
            worker.join()
        file.flush()
        return time.perf_counter() - start


def filter_loop(images: Sequence[NDArray[Any]], nb_frames: int, folder: Path) -> float:
    """Seconds for statistics and saving as most scripts do it."""
    import h5py

    shape = images[0].shape
    with h5py.File(folder / "filter.h5", "w") as file:
        dataset = file.create_dataset(
            "data", (nb_frames, *shape[1:]), images[0].dtype, **_creation((1, *shape[1:]))
        )
        start = time.perf_counter()
        for idx in range(nb_frames):
            image = images[idx % len(images)][0]
            for roi in RECTS:
                cut = image[roi.slices]
                cut.min(), cut.max(), cut.mean(), cut.std(), cut.sum()
            dataset[idx] = image
        file.flush()
        return time.perf_counter() - start


def _creation(chunks: tuple[int, ...]) -> dict[str, Any]:
    import hdf5plugin

    return {"chunks": chunks, **hdf5plugin.Bitshuffle(cname="lz4")}


def _compare(
    name: str, images: Sequence[NDArray[Any]], nb_frames: int, at_least: float
) -> list[Result]:
    ways: tuple[Callable[..., float], ...] = (classic, bare_loop, filter_loop)
    rates: dict[str, list[float]] = {way.__name__: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS + 1):
            for way in ways:
                count = nb_frames // (1 if way is not filter_loop else 4)
                rate = count / way(images, count, Path(folder))
                if number:  # the first round warms up
                    rates[way.__name__].append(rate)
    medians = {key: statistics.median(values) for key, values in rates.items()}
    ours = medians["classic"]
    return [
        result(
            f"classic.{name}.vs_bare_loop",
            ours,
            "frames/s",
            reference=medians["bare_loop"],
            at_least=0.85,
        ),
        result(
            f"classic.{name}.vs_filter_loop",
            ours,
            "frames/s",
            reference=medians["filter_loop"],
            at_least=at_least,
        ),
    ]


def main() -> list[Result]:
    """Measure simulated 8-bit frames and 16-bit photons."""
    kind, photons = photons_16_bit()
    return [
        *_compare("simulated 8-bit", simulated_8_bit(), 1000, 2.2),
        *_compare(f"{kind} 16-bit", photons, 400, 3.5),
    ]
