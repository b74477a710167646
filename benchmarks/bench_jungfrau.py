"""A JUNGFRAU system on this computer: emulator, UDP, receivers, photons, files; real servers.

The emulator has its share of the same cores, as has everything else: the figures are those of the
whole computer, not of a receiver that has one for itself. Compared are they with what the same
pipeline does with the same frames when they lie in memory already.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import Result, detector_frames, result
from benchmarks.jungfrau import DET, PROC, site
from client import Lima2, NotAvailableError, Run, Validity
from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.memory import PoolSet
from lima2_core.ids import FrameIdx
from lima2_core.worker import Worker
from processing.codecs import CODECS
from processing.jungfrau.calibration import Calibration, save_calibration
from processing.jungfrau.params import PhotonsParams
from processing.tasks.convert_photons import ConvertPhotons

BUSY_GB_S, BUSY_SECONDS = 1.0, 5.0
STEP_SECONDS = 2.0
STEPS = 5
MOST_HZ = 1_600.0
FRAME_BYTES = 512 * 1024 * 2
PACKET_SHARE = (8192 + 48) / 8192


class Sample:
    """Frames with their calibration: real ones if they are there."""

    def __init__(self, folder: Path) -> None:
        import h5py
        import hdf5plugin  # noqa: F401  registers the filters

        source = detector_frames()
        if source is None:
            random = np.random.default_rng(1)
            self.raw = random.integers(2400, 2600, (8, 512, 1024)).astype(np.uint16)
            pedestal = np.full((3, 512, 1024), 2500, np.float32)
            gain = np.full((3, 512, 1024), 400, np.float32)
        else:
            with h5py.File(source) as file:
                self.raw = file["raw"][:8]
                pedestal, gain = file["pedestal"][()], file["gain"][()]
        self.images = folder / "raw.npy"
        np.save(self.images, self.raw)
        self.calibration = folder / "calibration.h5"
        mask = np.zeros((1, 512, 1024), np.uint32)
        maps = Calibration((0,), pedestal[None], np.zeros_like(pedestal)[None], gain[None], mask)
        save_calibration(maps, self.calibration)

    @property
    def photons(self) -> dict[str, Any]:
        """The group of parameters that converts them."""
        return {"enabled": True, "calibration_path": str(self.calibration)}


def from_memory_hz(sample: Sample) -> float:
    """Frames that one thread per core converts and packs when they lie in memory."""
    cores = len(os.sched_getaffinity(0))
    pools = PoolSet(2**30)
    task = ConvertPhotons(PhotonsParams.from_tree(sample.photons), pools, 4 * cores)
    task.resolve(FrameSpec((1, 512, 1024), np.dtype(np.uint16)))
    task.buffers.reserve()
    encode = CODECS["bshuf_lz4"].encode
    done = [0] * cores
    until_s = time.perf_counter() + STEP_SECONDS

    def work(number: int) -> None:
        while time.perf_counter() < until_s:
            raw = sample.raw[done[number] % len(sample.raw)][None]
            encode(task.process(Frame(FrameIdx(done[number]), raw)).data)
            done[number] += 1

    workers = [Worker(f"reference-{n}", partial(work, n)) for n in range(cores)]
    for worker in workers:
        worker.join(60.0)
    return sum(done) / STEP_SECONDS


def loss_free_hz(lima: Lima2, folder: Path) -> float:
    """The highest rate at which no frame is lost, by bisection."""
    low_hz, high_hz = 0.0, MOST_HZ
    rate_hz = MOST_HZ / 2
    for step in range(STEPS):
        frames = max(20, int(rate_hz * STEP_SECONDS))
        begun_s = time.perf_counter()
        run = lima.acquire(
            nb_frames=frames, exposure_s=1 / rate_hz, save_to=folder, prefix=f"step{step}"
        )
        passed_s = time.perf_counter() - begun_s
        # Frames that wait in buffers are not lost yet: the end counts.
        if _keeps_up(run, passed_s):
            low_hz = rate_hz
        else:
            high_hz = rate_hz
        for file in folder.glob(f"step{step}*"):
            file.unlink()
        rate_hz = (low_hz + high_hz) / 2
    return low_hz


def _keeps_up(run: Run, passed_s: float) -> bool:
    """Whether all frames are there, and not long after the last one came."""
    whole = run.ledger.counts.get(Validity.VALID, 0) == len(run.ledger)
    return whole and passed_s < 1.25 * STEP_SECONDS + 1.0


def busy(folder: Path) -> Result:
    """Packets lost at 1 GB/s while files are written and clients poll.

    Frames are the picture of the virtual detector, which is packed to little: packing real ones, or
    writing them unpacked, takes more than what the emulator leaves of two cores.
    """
    rate_hz = BUSY_GB_S * 1e9 / (FRAME_BYTES * PACKET_SHARE)
    frames = int(rate_hz * BUSY_SECONDS)
    # In memory, as far as there is room: what a disk can take is measured elsewhere.
    shared = Path("/dev/shm")
    with (
        site(folder, 1) as system,
        tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else folder) as files,
    ):
        lima = system.client({DET + "emulator.images": "pattern", DET + "nb_buffers": 512})
        over = threading.Event()

        def poll() -> None:
            other = system.client({})
            while not over.wait(0.05):
                with suppress(NotAvailableError):  # nothing is prepared yet
                    assert other.status
                    assert other.run().progress

        workers = [Worker(f"client-{n}", poll) for n in range(2)]
        lima.params["processing.saving.compression"] = "bshuf_lz4"
        run = lima.acquire(
            nb_frames=frames, exposure_s=1 / rate_hz, save_to=files, prefix="busy", timeout_s=60
        )
        over.set()
        for worker in workers:
            worker.join(10.0)
        lost = sum(port["lost"] + port["overrun"] for port in system.counters())
        verdict = run.verdict
    if not verdict.startswith("all "):
        print(verdict)
    return result("jungfrau.packets_lost_at_1_gb_s", lost, "packets", at_most=0)


def main() -> list[Result]:
    """Photons on disk by one and two receivers, and packets on a busy computer."""
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample = Sample(folder)
        reference_hz = from_memory_hz(sample)
        for receivers in (1, 2):
            with site(folder, receivers) as system:
                lima = system.client(
                    {
                        DET + "emulator.images": str(sample.images),
                        PROC + "photons": sample.photons,
                        PROC + "saving.compression": "bshuf_lz4",
                    }
                )
                rate_hz = loss_free_hz(lima, folder)
            results.append(
                result(
                    f"jungfrau.photons_on_disk_{receivers}_receivers",
                    rate_hz,
                    "frames/s",
                    reference=reference_hz,
                )
            )
        results.append(busy(folder))
    return results
