"""What is to be published of one run: gathered from it, kept while Redis is away, within limits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.system.outputs import RunView
from processing.outputs.blissdata_info import ending, iso
from processing.outputs.blissdata_plan import Group, Images, ScanPlan
from processing.outputs.blissdata_readers import LedgerReader, front_of, reader_of
from processing.outputs.blissdata_segments import SegmentWatch

SEGMENTS_S = 10.0
"""How long the last segments of the master are waited for after the end of the run."""

_ENTRY_BYTES = 2**20
"""About the largest entry that is sent."""
_PIECE_BYTES = 200
"""What a piece takes besides its records."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Consecutive entries of one group; ``records`` is None where they were given up."""

    group: Group
    first: int
    count: int
    records: NDArray[Any] | None

    @property
    def end(self) -> int:
        return self.first + self.count

    @property
    def nbytes(self) -> int:
        return _PIECE_BYTES + (0 if self.records is None else self.records.nbytes)


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """How far a stream of images is, in blissdata's terms: newest index, newest index in files."""

    last_index: int
    last_index_saved: int

    def event(self) -> dict[str, int]:
        """As it is sent."""
        return {"last_index": self.last_index, "last_index_saved": self.last_index_saved}


class ImageProgress:
    """How far one stream of images is."""

    def __init__(self, run: RunView, images: Images) -> None:
        self.images = images
        self._run = run
        self._front = front_of(run, images.source)
        self._watch = SegmentWatch(images.segments) if images.segments is not None else None
        self._frames = 0

    def look(self) -> None:
        """Count the frames."""
        if self._front is not None:
            self._frames = self._front.look()
        else:
            self._frames = self._run.accessible(self.images.source)

    def look_at_files(self) -> None:
        """Count the segments; this asks a disk."""
        if self._watch is not None:
            self._watch.look()

    @property
    def all_in_files(self) -> bool:
        """Whether nothing more is to be expected in files."""
        return self._watch is None or self._in_files() >= self._frames

    def status(self, finished: bool) -> ImageStatus:
        """What to publish.

        A reader takes a file for complete once a frame of the next one is called saved, or the
        stream is sealed. A segment in place is complete, so the first frame after it is called
        saved as well, if there is one.
        """
        frames, ready = self._frames, self._in_files()
        if self._watch is None:
            return ImageStatus(frames - 1, -1)
        complete = ready
        if ready < frames and not finished:
            ready += 1
        elif not finished:
            complete = max(0, ready - 1) // self._watch.segments.frames
            complete *= self._watch.segments.frames
        if not self.images.server:  # nobody can be asked for what is in no complete file
            frames = min(frames, complete)
        return ImageStatus(frames - 1, min(ready, self._frames) - 1)

    def _in_files(self) -> int:
        """Frames in segments that are in place."""
        if self._watch is None:
            return 0
        return min(self._frames, self._watch.count * self._watch.segments.frames)


class RunFeed:
    """What is to be published of one run.

    Threads: `gather` and `look_at_files` from any; the rest from the publisher's.
    """

    def __init__(self, run: RunView, plan: ScanPlan) -> None:
        self.plan = plan
        self.key = ""
        """Of its scan; empty as long as there is none."""
        self.attempted = False
        """Whether a scan may have been made; see `BlissStore.find`."""
        self.told = threading.Event()
        """Set as long as the scan has everything, and only has to be closed."""
        self.closed = threading.Event()
        """Set once everything is published, or given up."""
        self.failure = ""
        """Why it was given up; empty if it was not."""
        self.failures = 0
        """Errors in a row that are no loss of the connection."""
        self.retry_at_s = 0.0
        self.interruptions = 0
        self.given_up: dict[str, int] = {}
        """Entries that were published as not-a-number, by group."""
        self.positions: dict[str, int] = {group.name: 0 for group in plan.groups}
        """Entries in Redis, by group."""
        self.ending: Mapping[str, Any] = {}
        self.images = tuple(ImageProgress(run, images) for images in plan.images)
        self._run: RunView | None = run
        self._readers = {group.name: reader_of(run, group) for group in plan.groups}
        self._totals = dict(self.positions)
        self._waiting: dict[str, deque[Piece]] = {group.name: deque() for group in plan.groups}
        self._nbytes = 0
        self._ended_s = 0.0
        self._started_wall_s = 0.0
        self._lock = threading.Lock()

    @property
    def started_wall_s(self) -> float:
        """When the run was started; 0 before."""
        run = self._run
        return run.started_wall_s() if run is not None else self._started_wall_s

    @property
    def finished(self) -> bool:
        """Whether all that there will be has been gathered."""
        return self._run is None

    @property
    def discarded(self) -> bool:
        """Whether the run ended without having been started."""
        run = self._run
        return run is not None and run.finished() and not run.started_wall_s()

    @property
    def nbytes(self) -> int:
        """Memory of what waits to be published."""
        return self._nbytes

    @property
    def due(self) -> bool:
        """Whether everything that will be has been gathered, and the files are there."""
        if not self.finished:
            return False
        late = time.monotonic() - self._ended_s > SEGMENTS_S
        return late or all(progress.all_in_files for progress in self.images)

    def gather(self) -> None:
        """Take what is new in the run."""
        with self._lock:
            run = self._run
            if run is None:
                return
            if not run.started_wall_s():
                return
            finished = run.finished()  # asked first: nothing comes after it
            for progress in self.images:
                progress.look()
            for group in self.plan.groups:
                self._put(group, self._readers[group.name].read())
            if finished:
                self._end(run)

    def end(self) -> None:
        """Gather the last; a run that is not over yet is published as far as it came."""
        self.gather()
        with self._lock:
            run = self._run
            if run is not None and run.started_wall_s():
                self._end(run)
                self.ending = {**self.ending, "end_reason": "FAILURE"}

    def look_at_files(self) -> None:
        """See which segments of the master are in place; this asks a disk."""
        with self._lock:
            for progress in self.images:
                progress.look_at_files()

    def statuses(self) -> dict[str, ImageStatus]:
        """How far the streams of images are."""
        with self._lock:
            return {p.images.name: p.status(self.due) for p in self.images}

    def batch(self, limit_bytes: int) -> list[Piece]:
        """What is to be sent next, at most one piece of a group."""
        with self._lock:
            chosen: list[Piece] = []
            for group in self.plan.groups:
                piece = self._next_of(group)
                if piece is not None:
                    chosen.append(piece)
                    limit_bytes -= piece.count * group.entry_bytes
                    if limit_bytes <= 0:
                        break
            return chosen

    def confirm(self, pieces: list[Piece]) -> None:
        """Forget what has been sent."""
        with self._lock:
            for piece in pieces:
                name = piece.group.name
                self.positions[name] = max(self.positions[name], piece.end)
                if piece.records is None:
                    self.given_up[name] = self.given_up.get(name, 0) + piece.count
                waiting = self._waiting[name]
                while waiting and waiting[0].end <= self.positions[name]:
                    self._nbytes -= waiting.popleft().nbytes

    def drop_oldest(self) -> int:
        """Give up the oldest piece of the group with most of them; the bytes that this frees."""
        with self._lock:
            longest = max(self._waiting.values(), key=len)
            if not longest:
                return 0
            piece = longest.popleft()
            self._nbytes -= piece.nbytes
            return piece.nbytes

    def abandon(self) -> None:
        """Gather no more, and forget what waits."""
        with self._lock:
            for reader in self._readers.values():
                reader.close()
            self._run = None
            self._nbytes = 0
            for waiting in self._waiting.values():
                waiting.clear()

    def _put(self, group: Group, records: NDArray[Any]) -> None:
        if len(records) == 0:
            return
        piece = Piece(group, self._totals[group.name], len(records), records)
        self._totals[group.name] = piece.end
        self._waiting[group.name].append(piece)
        self._nbytes += piece.nbytes

    def _end(self, run: RunView) -> None:
        """Everything was gathered: let go of the run."""
        corrected: dict[str, list[tuple[int, int]]] = {}
        for name, reader in self._readers.items():
            self._totals[name] = max(self._totals[name], reader.total() or 0)
            if isinstance(reader, LedgerReader):
                corrected[name] = reader.corrected()
            reader.close()
        self.ending = {**ending(run, corrected), "end_time": iso(time.time())}
        self._ended_s = time.monotonic()
        self._started_wall_s = run.started_wall_s()
        self._run = None

    def _next_of(self, group: Group) -> Piece | None:
        """The entries of a group that Redis should get next."""
        position, total = self.positions[group.name], self._totals[group.name]
        if position >= total:
            return None
        waiting = self._waiting[group.name]
        most = max(1, _ENTRY_BYTES // group.entry_bytes)
        if not waiting or waiting[0].first > position:
            until = waiting[0].first if waiting else total
            return Piece(group, position, min(most, until - position), None)
        first, end = waiting[0].first, waiting[0].first
        records: list[NDArray[Any]] = []
        for piece in waiting:
            if piece.first != end or piece.records is None or end - position >= most:
                break
            records.append(piece.records)
            end = piece.end
        together = np.concatenate(records)[position - first :][:most]
        return Piece(group, position, len(together), together)
