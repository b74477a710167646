"""Files that grow row by row; those of images, whose rows are chunks that are packed already."""

from __future__ import annotations

import contextlib
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lima2_core.data.fields import nothing_told
from lima2_core.data.frame import Validity
from lima2_core.ids import FrameIdx
from processing.sinks.hdf5_layout import FileLayout

_ROWS_PER_NODE = 57
"""Of the index of chunks, where rows are only added at the end: 0.9 of the 64 that fit."""
_NODE_BYTES = 4096
"""At most, for 4 dimensions."""
_MAX_RESERVE_BYTES = 2**20


class RowFile:
    """A file from its first row to its last; locked against readers until then.

    It is flushed by writing what HDF5 holds back to the operating system: this survives the
    death of the process, not a failure of the power. What a row has besides its class, a
    subclass writes.

    Args:
        draft: name of the file until it is locked; what is there is overwritten.
        image: bytes of a file of ``layout`` without rows.
        wall_s: time of the first row, seconds since 1970.

    Threads: one at a time.

    Raises:
        OSError, RuntimeError, ValueError: from every method, where the medium or HDF5 fails.
    """

    def __init__(
        self, path: Path, draft: Path, image: bytes, layout: FileLayout, wall_s: float
    ) -> None:
        self.path = path
        self.rows = 0
        """Rows so far, gaps included."""
        self._index_is_stale = False
        self._layout = layout
        self._side_rows = 0  # of those, already in validity and frame_idx
        self._validity: list[Validity] = []
        self._frame_idx: list[FrameIdx] = []
        self._fields: list[np.void] = []
        self._nothing_told = nothing_told(layout.fields)
        # Under its own name it must never be unlocked: a reader would take it for complete.
        try:
            draft.write_bytes(image)
            self._file = _opened(draft, layout)
            os.rename(draft, path)
        finally:
            draft.unlink(missing_ok=True)  # there is none after the rename
        self._write_time(layout.start_time, wall_s)

    def add_gap(self, idx: FrameIdx, cause: Validity) -> None:
        """The next row has no frame. After an error: `finish`."""
        self._note(idx, cause, self._nothing_told)

    def flush(self) -> None:
        """Make all rows so far readable whatever becomes of this process."""
        self._write_side_data()
        self._file.flush()

    def finish(self, wall_s: float, *, keep_empty: bool = False) -> None:
        """Cut what was not written, close: from now on the file is for readers.

        Closed in any case, as far as HDF5 can. A file without a row is removed, unless it is to
        be kept.
        """
        if self.rows == 0 and not keep_empty:
            self._discard()
            return
        with contextlib.closing(self._file):
            self._write_side_data()
            self._write_rest()
            self._write_time(self._layout.end_time, wall_s)
            if not self._index_is_stale:
                self._cut(self._file)
        if self._index_is_stale:
            # After a failed write HDF5 takes the chunk for written as long as the file is open,
            # and cutting would remove the one before it.
            with contextlib.closing(_opened(self.path, self._layout)) as file:
                self._cut(file)

    def _told(self, fields: np.void | None) -> np.void:
        """What the camera told of a frame, as it is written."""
        told = self._nothing_told if fields is None else fields
        if self._layout.fields and told.dtype != self._nothing_told.dtype:
            raise ValueError(f"the camera tells {told.dtype}, not what it declared")
        return told

    def _note(self, idx: FrameIdx, validity: Validity, told: np.void) -> None:
        """The next row is complete."""
        self._validity.append(validity)
        self._frame_idx.append(idx)
        if self._layout.fields:
            self._fields.append(told)
        if self.rows == 0:
            self._reserve()
        self.rows += 1

    def _write_rest(self) -> None:
        """Write what only complete files have."""

    def _cut(self, file: h5py.File) -> None:
        if self.rows < self._layout.rows:
            for path in self._per_row():
                file[path].resize(self.rows, axis=0)

    def _discard(self) -> None:
        """Remove the file, on a full disk too: emptied first, it leaves space for closing it."""
        try:
            with contextlib.closing(self._file):
                os.truncate(self.path, 0)
        finally:
            self.path.unlink(missing_ok=True)

    def _per_row(self) -> list[str]:
        """Datasets with an entry for each row."""
        layout = self._layout
        side = [layout.validity, layout.frame_idx] if layout.with_frame_idx else [layout.validity]
        return [*side, *(layout.field(field.name) for field in layout.fields)]

    def _reserve(self) -> None:
        """Take space on the medium for all that HDF5 will write besides frames."""

    def _write_side_data(self) -> None:
        if not self._validity:
            return
        rows = slice(self._side_rows, self._side_rows + len(self._validity))
        self._write_rows(self._layout.validity, rows, self._validity)
        if self._layout.with_frame_idx:
            self._write_rows(self._layout.frame_idx, rows, self._frame_idx)
        if self._layout.fields:
            records = np.array(self._fields, self._nothing_told.dtype)
            for field in self._layout.fields:
                self._file[self._layout.field(field.name)][rows] = records[field.name]
            self._fields.clear()
        self._side_rows = rows.stop
        self._validity.clear()
        self._frame_idx.clear()

    def _write_rows(self, path: str, rows: slice, values: list[Any]) -> None:
        dataset = self._file[path]
        dataset[rows] = np.array(values, dataset.dtype)

    def _write_time(self, path: str, wall_s: float) -> None:
        local = datetime.fromtimestamp(wall_s).astimezone()
        self._file[path][()] = local.isoformat(timespec="milliseconds")


class GrowingFile(RowFile):
    """A file of images: one chunk for each, already packed. See `RowFile`."""

    def __init__(
        self, path: Path, draft: Path, image: bytes, layout: FileLayout, wall_s: float
    ) -> None:
        super().__init__(path, draft, image, layout, wall_s)
        self._data = self._file[layout.data].id
        self._origin = (0,) * len(layout.frame_shape)

    def add(
        self,
        idx: FrameIdx,
        validity: Validity,
        chunk: bytes | NDArray[Any],
        fields: np.void | None = None,
    ) -> None:
        """Write the next row. After an error: `finish`."""
        told = self._told(fields)
        self._index_is_stale = True
        self._data.write_direct_chunk((self.rows, *self._origin), chunk)
        self._index_is_stale = False
        self._note(idx, validity, told)

    def _per_row(self) -> list[str]:
        return [self._layout.data, *super()._per_row()]

    def _reserve(self) -> None:
        """Take space on the medium for all that HDF5 will write besides frames.

        With the first row everything got its place in the file, ahead of the second frame. On a
        full disk it can then still be written, and with it the frames before are readable.
        """
        self.flush()
        size_bytes = self._file.id.get_filesize()
        # Not every file system can; where the disk is full, the next row tells.
        with contextlib.suppress(OSError):
            os.posix_fallocate(self._file.id.get_vfd_handle(), 0, size_bytes)


def _opened(path: Path, layout: FileLayout) -> h5py.File:
    """The file, locked, in the oldest format: that is readable after a crash, and by all."""
    nodes = layout.rows // _ROWS_PER_NODE + 8 + len(layout.fields)
    reserve_bytes = min(nodes * _NODE_BYTES, _MAX_RESERVE_BYTES)
    return h5py.File(path, "r+", libver="earliest", meta_block_size=reserve_bytes)
