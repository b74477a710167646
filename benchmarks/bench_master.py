"""The master of a long run: what a segment costs, what is left at the end, how fast it reads.

Two receivers save frames in turn, 1000 in a file. Segments are written while the ledger fills, as
in a run. Reading a whole segment is compared to reading its frames from the files of the
receivers: file by file, which is the fastest way, and for tiny frames, of which HDF5 handles each
at a price of its own, also frame by frame.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from benchmarks import Result, result
from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.rows import ROW_RECORD
from lima2_core.flow.sink import Row
from lima2_core.ids import AcqId, FrameIdx, LocalIdx
from lima2_core.system.ledger import Ledger
from lima2_core.system.outputs import RunView, SavedView
from processing.outputs.master import MasterOutput
from processing.outputs.master_plan import SEGMENT_FRAMES, MasterFiles
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5 import Hdf5Sink
from processing.tasks.encode_chunk import EncodeChunk

RECEIVERS = 2
FRAMES = 100_000
ROUNDS = 11


@dataclass
class LongRun:
    """Files of receivers, and a ledger to be filled."""

    run: RunView
    saved: SavedView
    ledger: Ledger

    @classmethod
    def save(cls, folder: Path, frames: int, side: int, rows_per_file: int) -> LongRun:
        """Write the files."""
        spec = FrameSpec((1, side, side), np.dtype(np.uint8))
        pixels = np.random.default_rng(1).poisson(3, (16, *spec.shape)).astype(np.uint8)
        rows = frames // RECEIVERS
        params = [
            SavingParams(
                enabled=True,
                base_path=str(folder),
                filename_rank=rank,
                nb_frames_per_file=rows_per_file,
            )
            for rank in range(RECEIVERS)
        ]
        for rank, one in enumerate(params):
            sink = Hdf5Sink(one, spec, FileMetadata(AcqId("bench")), expected_rows=rows)
            task = EncodeChunk(one)
            task.resolve(spec)
            sink.open()
            for local in range(rows):
                idx = FrameIdx(local * RECEIVERS + rank)
                chunk = task.process(Frame(idx, pixels[idx % len(pixels)]))
                sink.write([Row(LocalIdx(local), idx, chunk)])
            sink.close()
        ledger = Ledger(frames)
        saved = SavedView(
            name="frame",
            spec=spec,
            files=tuple(one.saved_files(spec) for one in params),
            placements=(),
            part_specs=(spec,) * RECEIVERS,
            ledger=ledger,
            flushed=lambda receiver: rows,
        )
        return cls(_view(saved), saved, ledger)

    def tell(self, first: int, last: int) -> None:
        """The receivers tell of frames."""
        for receiver in range(RECEIVERS):
            idx = np.arange(first + receiver, last, RECEIVERS)
            rows = np.zeros(len(idx), ROW_RECORD)
            rows["frame_idx"], rows["row"] = idx, idx // RECEIVERS
            self.ledger.tell(receiver, rows)

    def master(self) -> tuple[list[float], float]:
        """Seconds for each segment, and for what is left at the end."""
        total = self.ledger.expected or 0
        output = MasterOutput()
        output.open(self.run)
        output.update()
        each = []
        for first in range(0, total, SEGMENT_FRAMES):
            self.tell(first, min(first + SEGMENT_FRAMES, total))
            each.append(_seconds(output.update))
        self.ledger.end(total)
        return each, _seconds(output.finish)


def _view(saved: SavedView) -> RunView:
    return RunView(
        acq_id=AcqId("bench"),
        device="",
        detector={},
        requested={},
        applied={},
        processing={},
        metadata={},
        receivers=("r0", "r1"),
        topology="round_robin",
        ledger=saved.ledger,
        sources={},
        saved={"frame": saved},
        streams={},
        started_wall_s=time.time,
        finished=lambda: True,
        verdict=str,
    )


def _seconds(work: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def read_segment(long_run: LongRun, out: NDArray[Any]) -> None:
    """The first segment of the master."""
    with h5py.File(MasterFiles.of(long_run.saved).segment(0)) as file:
        file[long_run.saved.files[0].dataset].read_direct(out)


def read_files(long_run: LongRun, out: NDArray[Any], *, one_by_one: bool) -> None:
    """The same frames from the files of the receivers."""
    saved = long_run.saved
    for receiver, files in enumerate(saved.files):
        mine = out[receiver::RECEIVERS]
        for number, first in enumerate(range(0, len(mine), files.rows_per_file)):
            rows = mine[first : first + files.rows_per_file]
            path = Path(files.folder) / f"{files.prefix}_{files.rank}_{number:05d}.h5"
            with h5py.File(path) as file:
                data = file[files.dataset]
                if one_by_one:
                    for row in range(len(rows)):
                        data.read_direct(rows[row : row + 1], np.s_[row : row + 1])
                else:
                    rows[:] = data[: len(rows)]


def reading(name: str, side: int, frames: int, *, one_by_one: bool = False) -> Result:
    """Read a segment and its files in turns."""
    with tempfile.TemporaryDirectory() as folder:
        long_run = LongRun.save(Path(folder), frames, side, 50)
        long_run.master()
        shape = (frames, side, side)
        shown, saved = np.zeros(shape, np.uint8), np.ones(shape, np.uint8)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(_seconds(lambda: read_segment(long_run, shown)))
            theirs.append(_seconds(lambda: read_files(long_run, saved, one_by_one=one_by_one)))
    if not np.array_equal(shown, saved):
        raise ValueError("the master does not show what is in the files")
    return result(
        name,
        min(ours) * 1e3,
        "ms",
        reference=min(theirs) * 1e3,
        at_most=1.5,
    )


def main() -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        each, end_s = LongRun.save(Path(folder), FRAMES, 8, 1000).master()
    return [
        result("master.segment", statistics.median(each) * 1e3, "ms", at_most=100),
        result("master.segment_worst", max(each) * 1e3, "ms"),
        result("master.end", end_s, "s", at_most=1),
        reading("master.read_1024", 1024, 200),
        reading("master.read_512", 512, 500),
        reading("master.read_16_frame_by_frame", 16, 1000, one_by_one=True),
    ]
