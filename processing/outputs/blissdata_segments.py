"""The segments of the master file, as a reader of blissdata finds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lima2_core.system.outputs import RunView
from processing.outputs.master_plan import (
    MasterFiles,
    band_path,
    frames_per_segment,
    segment_frames,
)


@dataclass(frozen=True, slots=True)
class Segments:
    """Files with the frames of one stream: frame k is row k % frames of file k // frames."""

    index: str
    """Path of the file that links them all."""
    pattern: str
    """Path of the files as a %-format of their number, with no other conversion in it."""
    dataset: str
    """Path of the dataset in each file, (frames, rows, cols)."""
    frames: int

    def path(self, number: int) -> str:
        """Path of one file."""
        return self.pattern % number


class SegmentWatch:
    """Counts the segments that were put in place since it was made.

    Files of an earlier run may bear the same names until they are replaced.

    Threads: one at a time.
    """

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        self.count = 0
        """All segments below this number are in place."""
        self._stale: dict[int, tuple[int, int]] = {}
        number = 0
        while (stamp := self._stamp(number)) is not None:
            self._stale[number] = stamp
            number += 1

    def look(self) -> int:
        """Count again."""
        while (stamp := self._stamp(self.count)) is not None:
            if self._stale.get(self.count) == stamp:
                break
            self.count += 1
        return self.count

    def _stamp(self, number: int) -> tuple[int, int] | None:
        """What distinguishes a file from another of its name; None if there is none."""
        try:
            status = Path(self.segments.path(number)).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns


def segments_of(
    run: RunView, source: str, band: int, settings: Mapping[str, str]
) -> Segments | None:
    """Where the master of ``run`` has the frames of one band; None if it has them not."""
    saved = run.saved.get(source)
    if saved is None or settings.get("master") == "off":
        return None
    first = saved.files[0]
    files = MasterFiles.of(saved)
    return Segments(
        index=str(files.index),
        pattern=files.pattern,
        dataset=band_path(first.dataset, band) if first.bands_axis else first.dataset,
        frames=frames_per_segment(saved, segment_frames(settings)),
    )
