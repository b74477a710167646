"""The master of one saved source, as it grows with the run."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lima2_core.clock import Clock, SystemClock
from lima2_core.data.frame import Validity
from lima2_core.errors import StorageError
from lima2_core.system.ledger import OPEN
from lima2_core.system.outputs import RunView, SavedView, Survivors
from processing.outputs.master_plan import (
    MAX_FILES,
    FrameTable,
    MasterFiles,
    frames_per_segment,
    may_overwrite,
    receiver_file,
)
from processing.outputs.master_reserve import Reserve
from processing.sinks.hdf5_rows import HDF5_ERRORS

if TYPE_CHECKING:
    from processing.outputs.master_hits import HitPointers
    from processing.outputs.master_writer import MasterWriter

log = logging.getLogger(__name__)

WHOLE_FRAMES = 10_000
"""Up to so many frames the index shows all in one dataset."""
WHOLE_MAPPINGS = 60_000
"""Parts and bands of frames in it; more would take seconds at the end of the run."""
INDEX_PERIOD_S = 2.0
RETRY_S = 1.0

_MAPPING_BYTES = 200
_FILE_BYTES = 2**16
_LATE_SEGMENTS = 16


class SourceMaster:
    """Writes the segments and the index of one saved source.

    Threads: `survivors`, `results`, `trouble` from any thread, the rest one at a time.
    """

    def __init__(
        self, run: RunView, saved: SavedView, segment_frames: int, clock: Clock | None = None
    ) -> None:
        self.trouble = ""
        self._run = run
        self._saved = saved
        self._ledger = saved.ledger
        self._clock = clock or SystemClock()
        self._size = frames_per_segment(saved, segment_frames)
        self._files = MasterFiles.of(saved)
        self._writer: MasterWriter | None = None
        self._pointers: HitPointers | None = None
        """Where the hits of frames are, if these are saved, and not images."""
        self._tables: dict[int, FrameTable] = {}
        """What is in the segments that are written."""
        self._due: list[int] = []
        """Segments that are not written yet, and could be."""
        self._looked_at = 0
        self._drafts: dict[int, set[tuple[int, int]]] = {}
        """Segments that are not in place yet, and the files of receivers they wait for."""
        self._complete: set[tuple[int, int]] = set()
        self._placed: dict[int, tuple[int, int]] = {}
        """Segments in place: first frame, number of frames."""
        self._indexed = 0
        self._index_due_s = 0.0
        self._retry_s = 0.0
        self._has_index = False
        self._reserve: Reserve | None = None
        self._survivors: dict[int, int] = {}

    def open(self) -> None:
        """Remove what is left of earlier runs, and keep some space on the disk.

        Raises:
            StorageError: there are files that must not be removed.
        """
        from processing.outputs.master_hits import HitPointers
        from processing.outputs.master_writer import MasterWriter

        files = self._saved.files[0]
        self._files.clear(overwrite=may_overwrite(self._run.processing, files))
        self._pointers = HitPointers(self._saved) if files.hits else None
        self._writer = MasterWriter(self._run, self._saved, self._files, self._pointers)
        self._reserve = Reserve(self._files.folder, self._reserve_bytes())

    def update(self) -> None:
        """Write segments that can be written, and put those in place that can be read."""
        now_s = self._clock.now_s()
        if now_s < self._retry_s:
            return
        try:
            self._write_due()
            self._place_complete()
            if len(self._placed) > self._indexed and now_s >= self._index_due_s:
                self._write_index_so_far()
        except HDF5_ERRORS as error:
            # The disk may have space again later; at the end it is tried once more.
            self._retry_s = now_s + RETRY_S
            if not self.trouble:
                log.warning("The master %s cannot be written: %s", self._files.index, error)
            self.trouble = f"{self._files.index} cannot be written: {error}"
        else:
            self.trouble = ""

    def finish(self) -> None:
        """Write all that is left, with what the ledger says now.

        Raises:
            StorageError: the medium failed.
        """
        if self._reserve is not None:
            self._reserve.release()
        try:
            table = self._final_table()
            parts = [
                table.part(first, min(first + self._size, len(table)))
                for first in range(0, len(table), self._size)
            ]
            # First what leads to every frame, if the space should not be enough for all.
            index = self._draft_index(table, parts)
            try:
                for number, part in enumerate(parts):
                    self._complete_segment(number, part)
            finally:
                self._put_index(index)
        except HDF5_ERRORS as error:
            self._discard_drafts()
            raise StorageError(
                f"the master {self._files.index} could not be completed: {error}; the frames are "
                "in the files of the receivers",
                file=str(self._files.index),
            ) from error
        self.trouble = ""

    def survivors(self, receiver: int) -> Survivors:
        """What can be read from the files of a receiver that died."""
        from processing.outputs.master_rows import beside_frames, readable_rows

        files, told = self._saved.files[receiver], self._ledger.rows_of(receiver)
        rows = readable_rows(files, self._saved.flushed(receiver))
        self._survivors[receiver] = rows
        indices, codes = (
            beside_frames(files, name, told, rows) for name in ("frame_idx", "validity")
        )
        # Files have indices without sign, which numpy does not compare with a negative number.
        return Survivors(rows, None if indices is None else indices.astype("i8"), codes)

    def results(self) -> list[str]:
        """Files in place, the index first."""
        segments = [str(self._files.segment(number)) for number in sorted(self._placed.copy())]
        return [str(self._files.index), *segments] if self._has_index else segments

    def _write_due(self) -> None:
        told = self._ledger.highest // self._size
        self._due.extend(range(self._looked_at, told))
        self._looked_at = max(self._looked_at, told)
        for number in tuple(self._due):
            first = number * self._size
            table = FrameTable.read(self._ledger, first, first + self._size)
            # Rows of a receiver that died are flushed or not: the end of the run tells.
            if table.settled and not table.unsafe(self._flushed()).any() and self._known(table):
                self._draft(number, table)

    def _known(self, table: FrameTable) -> bool:
        """Whether it can be told where frames are; of hits only complete files tell."""
        if self._pointers is None:
            return True
        return not self._incomplete(table.files(self._saved.files))

    def _draft(self, number: int, table: FrameTable) -> None:
        self._writing().draft_segment(number, table)
        self._tables[number] = table
        self._drafts[number] = table.files(self._saved.files)
        if number in self._due:
            self._due.remove(number)

    def _place_complete(self) -> None:
        for number, waits_for in tuple(self._drafts.items()):
            self._drafts[number] = self._incomplete(waits_for)
            if not self._drafts[number]:
                self._place(number)

    def _incomplete(self, files: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Those of some files of receivers that are not complete, as far as it was looked."""
        from processing.file_locks import is_complete

        left = files - self._complete
        for receiver, file in tuple(left):
            if not is_complete(receiver_file(self._saved.files[receiver], file)):
                break
            self._complete.add((receiver, file))
            left.discard((receiver, file))
        return left

    def _place(self, number: int) -> None:
        path = self._files.segment(number)
        os.replace(self._files.draft(path), path)
        del self._drafts[number]
        table = self._tables[number]
        self._placed[number] = (table.first, len(table))

    def _write_index_so_far(self) -> None:
        began_s = self._clock.now_s()
        self._put_index(self._writing().draft_index(self._placed))
        ended_s = self._clock.now_s()
        # Links become many in a long run; this shall stay a small part of the time.
        self._index_due_s = ended_s + max(INDEX_PERIOD_S, 20 * (ended_s - began_s))

    def _draft_index(self, table: FrameTable, parts: Sequence[FrameTable]) -> Path:
        from processing.outputs.master_writer import Outcome

        segments = {number: (part.first, len(part)) for number, part in enumerate(parts)}
        outcome = Outcome(self._ledger.summary(), self._run.verdict(), self._clock.wall_s())
        whole = self._fits_whole(table)
        return self._writing().draft_index(segments, table, outcome, whole=whole)

    def _complete_segment(self, number: int, table: FrameTable) -> None:
        """See that a segment is in place, and tells what is known at the end."""
        written = self._tables.get(number)
        if written is None or not written.is_like(table):
            self._draft(number, table)
        if number in self._drafts:
            self._place(number)

    def _put_index(self, draft: Path) -> None:
        os.replace(draft, self._files.index)
        self._indexed = len(self._placed)
        self._has_index = True

    def _fits_whole(self, table: FrameTable) -> bool:
        return (
            len(table) <= WHOLE_FRAMES
            and len(table) * self._mappings <= WHOLE_MAPPINGS
            and len(table.files(self._saved.files)) <= MAX_FILES
        )

    def _final_table(self) -> FrameTable:
        """All frames up to the last that was sent, as far as they can be read."""
        table = FrameTable.read(self._ledger, 0, self._ledger.last_sent())
        # What was told of and did not reach the disk is no frame, even if the ledger takes it for
        # one: this happens if the writer of a receiver fails.
        code = int(Validity.CRASH) if self._run.finished() else OPEN
        table = table.without(table.unsafe(self._flushed()), code)
        if self._pointers is not None:
            table = table.without(self._pointers.unreadable(table), code)
        return table

    def _flushed(self) -> list[int]:
        """Rows of each receiver that can be read, as far as it is known."""
        return [
            self._survivors.get(receiver, self._saved.flushed(receiver))
            for receiver in range(len(self._saved.files))
        ]

    def _writing(self) -> MasterWriter:
        if self._writer is None:
            raise ValueError("the master is not open")
        return self._writer

    def _reserve_bytes(self) -> int:
        """What it takes to complete the master when the frames have filled the disk."""
        frames = min(self._ledger.expected or WHOLE_FRAMES, WHOLE_FRAMES)
        segments = min(_LATE_SEGMENTS, -(-frames // self._size))
        # Every frame is in a segment, and in the index.
        return 2 * frames * self._mappings * _MAPPING_BYTES + (segments + 2) * _FILE_BYTES

    @property
    def _mappings(self) -> int:
        """Mappings of one frame."""
        if self._saved.files[0].hits:
            return 2 * self._ledger.parts
        bands = self._saved.spec.shape[0] if self._saved.files[0].bands_axis else 0
        return self._ledger.parts * (1 + bands)

    def _discard_drafts(self) -> None:
        for number in self._drafts:
            with contextlib.suppress(OSError):
                self._files.draft(self._files.segment(number)).unlink(missing_ok=True)
