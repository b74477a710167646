"""What a master consists of: the names of its files, and which frame is where.

Nothing here knows HDF5.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import PRESENT, Validity
from lima2_core.errors import ParamError, StorageError
from lima2_core.flow.pipeline import SavedFiles
from lima2_core.system.ledger import OPEN, Ledger
from lima2_core.system.outputs import SavedView

SEGMENT_FRAMES = 1000
MAX_SEGMENT_FRAMES = 10_000
MAX_FILES = 400
"""Files of receivers behind one dataset. HDF5 keeps them all open while the dataset is, and what
it cannot open reads as fill value without a word: a reader may have no more than 1024 files."""

_FINAL = r"%s_master(_\d{5,})?\.h5"
_ABSENT = (Validity.NEVER_SENT, OPEN)


@dataclass(frozen=True, slots=True)
class MasterFiles:
    """Names of the files of one master; they lie beside those of the receivers."""

    folder: Path
    prefix: str

    @classmethod
    def of(cls, saved: SavedView) -> MasterFiles:
        """Those of a saved source."""
        return cls(Path(saved.files[0].folder), saved.files[0].prefix)

    @property
    def index(self) -> Path:
        """The file that leads to all segments."""
        return self.folder / f"{self.prefix}_master.h5"

    def segment(self, number: int) -> Path:
        """The file of one segment."""
        return self.folder / f"{self.prefix}_master_{number:05d}.h5"

    @property
    def pattern(self) -> str:
        """Path of segment n is ``pattern % n``."""
        folder, prefix = (str(part).replace("%", "%%") for part in (self.folder, self.prefix))
        return f"{folder}/{prefix}_master_%05d.h5"

    def draft(self, path: Path) -> Path:
        """Name of a file while it is being written."""
        return path.with_name(f".{path.name}.new")

    def existing(self) -> list[Path]:
        """Files of earlier runs; none if the folder is not to be seen from here."""
        try:
            return self._matching([entry.name for entry in os.scandir(self.folder)], _FINAL)
        except OSError:
            return []

    def clear(self, *, overwrite: bool) -> None:
        """Remove what is left of earlier runs.

        Raises:
            StorageError: there are files that must not be removed, or the folder is not to be
                seen from here.
        """
        try:
            names = [entry.name for entry in os.scandir(self.folder)]
            existing = self._matching(names, _FINAL)
            if existing and not overwrite:
                raise StorageError(
                    f"{existing[0]} exists and must not be overwritten; choose another "
                    "filename_prefix or base_path",
                    file=str(existing[0]),
                )
            drafts = self._matching(names, r"\.%s_master(_\d{5,})?\.h5\.new")
            for path in (*existing, *drafts):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"no master file can be made in {self.folder}: {error.strerror}; the computer of "
                "the control needs this folder too",
                file=str(self.index),
            ) from error

    def _matching(self, names: Sequence[str], pattern: str) -> list[Path]:
        name = re.compile(pattern % re.escape(self.prefix))
        return [self.folder / one for one in sorted(names) if name.fullmatch(one)]


def saving_block(processing: Mapping[str, Any], files: SavedFiles) -> str:
    """Name of the group of parameters that leads to ``files``; empty if none does."""
    if isinstance(processing.get(files.block), Mapping):
        return files.block
    for name, block in processing.items():
        if (
            isinstance(block, Mapping)
            and block.get("enabled")
            and block.get("base_path", files.folder) == files.folder
            and block.get("filename_prefix", files.prefix) == files.prefix
        ):
            return name
    return ""


def may_overwrite(processing: Mapping[str, Any], files: SavedFiles) -> bool:
    """Whether the parameters allow to remove files of earlier runs at the place of ``files``."""
    block = processing.get(saving_block(processing, files), {})
    return bool(block.get("file_exists_policy") == "overwrite")


def segment_frames(settings: Mapping[str, str]) -> int:
    """Frames that the settings of the installation want in a segment.

    Raises:
        ParamError: it is no number, or out of range.
    """
    text = settings.get("master_segment_frames") or str(SEGMENT_FRAMES)
    if not text.isdecimal() or not 1 <= int(text) <= MAX_SEGMENT_FRAMES:
        raise ParamError(
            f"{text!r} is no number of frames from 1 to {MAX_SEGMENT_FRAMES}",
            path="master_segment_frames",
        )
    return int(text)


def frames_per_segment(saved: SavedView, wanted: int) -> int:
    """Frames in each segment but the last: fewer than wanted, where files hold very few."""
    rows = min(files.rows_per_file for files in saved.files)
    full_files = max(1, (MAX_FILES - len(saved.files)) // saved.ledger.parts)
    return min(wanted, rows * full_files)


def band_path(data: str, band: int) -> str:
    """Path of the dataset of one band; there is one for each where ``data`` has an axis for it."""
    return f"{data}_band{band}"


@dataclass(frozen=True, slots=True, eq=False)
class FrameTable:
    """What became of consecutive frames, and where those are that are there.

    Shapes: ``code``, ``receiver``, ``timestamp_s`` (n,); ``row`` (n, parts), -1 where nothing
    can be read. ``receiver`` is -1 where no receiver has the frame, or each has a part.
    """

    first: int
    code: NDArray[np.uint8]
    receiver: NDArray[np.int16]
    row: NDArray[np.int64]
    timestamp_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.code)

    @classmethod
    def read(cls, ledger: Ledger, first: int, last: int) -> FrameTable:
        """The frames from ``first`` to ``last`` - 1, as the ledger tells now."""
        entries = ledger.entries(first, last)
        row = entries.row
        row[~np.isin(entries.code, PRESENT)] = -1
        return cls(first, entries.code, entries.receiver, row, entries.timestamp_s)

    def part(self, first: int, last: int) -> FrameTable:
        """The frames from ``first`` to ``last`` - 1, of those that are here."""
        here = slice(first - self.first, last - self.first)
        return FrameTable(
            first, self.code[here], self.receiver[here], self.row[here], self.timestamp_s[here]
        )

    @property
    def sent(self) -> int:
        """Frames up to the last one that was sent at all."""
        sent = np.flatnonzero(~np.isin(self.code, _ABSENT))
        return int(sent[-1]) + 1 if len(sent) else 0

    @property
    def settled(self) -> bool:
        """Whether it is known of every frame what became of it in the run."""
        return not np.isin(self.code, _ABSENT).any()

    def is_like(self, other: FrameTable) -> bool:
        """Whether the same is known of the same frames."""
        return (
            self.first == other.first
            and np.array_equal(self.code, other.code)
            and np.array_equal(self.row, other.row)
            and np.array_equal(self.receiver, other.receiver)
        )

    def owners(self) -> NDArray[np.int64]:
        """The receiver of every place in ``row``.

        Shapes: -> (n, parts); -1 where there is none.
        """
        if self.row.shape[1] == 1:
            return self.receiver[:, None].astype(np.int64)
        return np.broadcast_to(np.arange(self.row.shape[1]), self.row.shape)

    def unsafe(self, safe: Sequence[int]) -> NDArray[np.bool_]:
        """Where the row of a receiver is not among its first ``safe`` ones.

        Shapes: -> (n, parts).
        """
        limits = np.append(np.asarray(safe, np.int64), 0)  # the last is for -1, no receiver
        unsafe: NDArray[np.bool_] = (self.row >= 0) & (self.row >= limits[self.owners()])
        return unsafe

    def without(self, unsafe: NDArray[np.bool_], code: int) -> FrameTable:
        """The same, with rows that cannot be read left out; ``code`` where nothing is left.

        Shapes: ``unsafe`` (n, parts).
        """
        if not unsafe.any():
            return self
        row = np.where(unsafe, -1, self.row)
        left = np.where((row >= 0).any(axis=1), np.uint8(Validity.PARTIAL), np.uint8(code))
        codes = np.where(unsafe.any(axis=1), left, self.code)
        return FrameTable(self.first, codes, self.receiver, row, self.timestamp_s)

    def files(self, saved: Sequence[SavedFiles]) -> set[tuple[int, int]]:
        """Receiver and number of all files that frames are in."""
        found: set[tuple[int, int]] = set()
        owners = self.owners()
        for receiver, files in enumerate(saved):
            rows = self.row[(self.row >= 0) & (owners == receiver)]
            found.update((receiver, int(n)) for n in np.unique(rows // files.rows_per_file))
        return found


def receiver_file(files: SavedFiles, number: int) -> Path:
    """File ``number`` of a receiver."""
    return Path(files.folder) / f"{files.prefix}_{files.rank}_{number:05d}.h5"
