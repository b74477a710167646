"""An hour of a detector in a few minutes: a million small frames, some of them incomplete.

The books are exact at the end, and the memory is flat but for the books.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks import Result, result
from benchmarks.jungfrau import DET, Site, site

FRAMES = int(os.environ.get("LIMA2_BENCH_FRAMES", "1000000"))
RATE_HZ = 6_000
FAULT_EVERY = 1_000


def main() -> list[Result]:
    """Run it."""
    with tempfile.TemporaryDirectory() as name:
        return long_run(Path(name))


def long_run(folder: Path) -> list[Result]:
    """Many small frames, some of them incomplete: the books are exact, the memory is flat."""
    with site(folder, 1) as system:
        lima = system.client(
            {
                DET + "readout_rows": 8,
                DET + "nb_buffers": 4096,
                DET + "emulator.images": "pattern",
                DET + "emulator.faults": [f"drop:packet=0,every={FAULT_EVERY}"],
            }
        )
        lima.acquire(nb_frames=1000, exposure_s=1 / RATE_HZ)
        run = lima.acquire(nb_frames=FRAMES, exposure_s=1 / RATE_HZ, wait=False)
        begun_s, first = time.perf_counter(), 0
        memory: list[tuple[int, int]] = []
        tick = threading.Event()
        while not run.ended:
            tick.wait(1.0)
            received = run.progress.received
            first = first or received
            memory.append((received, sum(_memory_bytes(pid) for pid in _pids(system))))
        passed_s = time.perf_counter() - begun_s
        counts = np.bincount(run.ledger.code, minlength=2)
        partial_frames = -(-FRAMES // FAULT_EVERY)
        wrong = abs(int(counts[1]) - partial_frames) + abs(int(counts.sum()) - FRAMES)
        wrong += FRAMES - int(counts[:2].sum())
    late = [pair for pair in memory if pair[0] > FRAMES // 4] or memory
    (frames_0, bytes_0), (frames_1, bytes_1) = late[0], late[-1]
    slope = (bytes_1 - bytes_0) / max(1, frames_1 - frames_0)
    return [
        result("long_run.rate", FRAMES / passed_s, "frames/s"),
        result("long_run.wrong_in_ledger", wrong, "frames", at_most=0),
        # The books of the front and of the receiver take some bytes for each frame of a run.
        result("long_run.memory", float(slope), "bytes/frame", at_most=200),
    ]


def _pids(system: Site) -> list[int]:
    names = ("jungfrau_ctl", "jungfrau_rcv1")
    return [system.servers.pid(name) for name in names if system.servers.running(name)]


def _memory_bytes(pid: int) -> int:
    """Resident memory without what is shared, which is that of the frame buffers."""
    text = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return (int(text[1]) - int(text[2])) * os.sysconf("SC_PAGE_SIZE")
