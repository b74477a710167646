"""The hits of a master: virtual datasets over the files of the receivers, in frame order."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import NDArray

from lima2_core.system.outputs import SavedView
from processing.kernels.hits import INDEX
from processing.outputs.master_images import NameOf, escaped
from processing.outputs.master_plan import FrameTable, receiver_file
from processing.sinks.hdf5_rows import HDF5_ERRORS
from processing.sinks.hdf5_sparse_layout import HitsDetails, describe_hits
from processing.sinks.nexus import make_group, mark_data

log = logging.getLogger(__name__)

_MAX_FILES = 1000
"""Whose pointers are kept, as segment and index both need them."""


class HitPointers:
    """Where the hits of each row begin and end in the files of receivers.

    A file is read once, so it has to be complete, or its receiver at its end.

    Threads: one at a time.
    """

    def __init__(self, saved: SavedView) -> None:
        self._files = saved.files
        self._read: dict[tuple[int, int], NDArray[np.int64]] = {}

    def of(self, receiver: int, number: int) -> NDArray[np.int64]:
        """Those of a file; none if it cannot be read.

        Shapes: (rows + 1,), or (0,).
        """
        key = receiver, number
        if key not in self._read:
            files = self._files[receiver]
            path = receiver_file(files, number)
            try:
                # A receiver that was stopped still holds its lock; what it flushed is there.
                with h5py.File(path, "r", locking=False) as file:
                    found = np.asarray(file[f"{files.dataset}/frame_ptr"][()], np.int64)
            except (*HDF5_ERRORS, KeyError) as error:
                log.warning("The hits in %s are lost: it cannot be read (%s).", path, error)
                return np.empty(0, np.int64)
            while len(self._read) >= _MAX_FILES:
                del self._read[next(iter(self._read))]
            self._read[key] = found
        return self._read[key]

    def unreadable(self, table: FrameTable) -> NDArray[np.bool_]:
        """Which rows of a table have hits of which nobody can say where they are.

        Shapes: -> (n, parts).
        """
        found = np.zeros(table.row.shape, np.bool_)
        owners = table.owners()
        for receiver, number in sorted(table.files(self._files)):
            size = self._files[receiver].rows_per_file
            rows = table.row - number * size
            here = (owners == receiver) & (rows >= 0) & (rows < size)
            pointers = self.of(receiver, number)
            known = np.diff(pointers) >= 0 if len(pointers) else np.empty(0, np.bool_)
            known = np.append(known, np.zeros(size + 1, np.bool_))
            found[here] = ~known[rows[here]]
        return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """Hits that follow each other in a file."""

    receiver: int
    number: int
    first: int
    count: int


def write_hits(
    file: h5py.File, saved: SavedView, table: FrameTable, pointers: HitPointers, name_of: NameOf
) -> None:
    """Make the group of hits: ``index`` and ``intensity`` are virtual, ``frame_ptr`` is not.

    Hits of frame n of ``table`` are those from frame_ptr[n] to frame_ptr[n + 1], in the order of
    the receivers where each has a part; a frame that is missing has none.
    """
    counts = np.zeros(len(table), np.int64)
    pieces: list[_Piece] = []
    for n, piece in _pieces(saved, table, pointers):
        counts[n] += piece.count
        last = pieces[-1] if pieces else None
        if last is not None and _follows(last, piece):
            pieces[-1] = _Piece(last.receiver, last.number, last.first, last.count + piece.count)
        elif piece.count:
            pieces.append(piece)
    path, spec = saved.files[0].dataset, saved.spec
    parent, _, name = path.rpartition("/")
    group = make_group(file[parent], name, "NXdata")
    group["frame_ptr"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    for column, dtype in (("index", INDEX), ("intensity", spec.dtype)):
        _make_column(file, f"{path}/{column}", dtype, int(counts.sum()), pieces, name_of)
    _, rows, cols = spec.shape
    describe_hits(group, HitsDetails((rows, cols), saved.files[0].threshold), spec.unit)
    mark_data(group["intensity"], saved.files[0].marks)


def _pieces(
    saved: SavedView, table: FrameTable, pointers: HitPointers
) -> Iterator[tuple[int, _Piece]]:
    """The hits of each frame, or part of one, in the order of the frames.

    Raises:
        OSError: nobody can say where some of them are.
    """
    owners = table.owners()
    for n, part in np.argwhere(table.row >= 0).tolist():
        receiver = int(owners[n, part])
        number, row = divmod(int(table.row[n, part]), saved.files[receiver].rows_per_file)
        known = pointers.of(receiver, number)
        if row + 1 >= len(known) or known[row + 1] < known[row]:
            path = receiver_file(saved.files[receiver], number)
            raise OSError(f"{path} does not tell where the hits of row {row} are")
        yield n, _Piece(receiver, number, int(known[row]), int(known[row + 1] - known[row]))


def _follows(last: _Piece, piece: _Piece) -> bool:
    same = (last.receiver, last.number) == (piece.receiver, piece.number)
    return same and last.first + last.count == piece.first


def _make_column(
    file: h5py.File,
    path: str,
    dtype: np.dtype[Any],
    size: int,
    pieces: list[_Piece],
    name_of: NameOf,
) -> None:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    target = h5s.create_simple((size,))
    first = 0
    for piece in pieces:
        source = h5s.create_simple((piece.first + piece.count,))
        source.select_hyperslab((piece.first,), (1,), block=(piece.count,))
        target.select_hyperslab((first,), (1,), block=(piece.count,))
        # In the files of receivers the values stand at the same place.
        properties.set_virtual(target, name_of(piece.receiver, piece.number), escaped(path), source)
        first += piece.count
    h5d.create(
        file.id,
        path.encode(),
        h5t.py_create(dtype, logical=True),
        h5s.create_simple((size,)),
        properties,
    )
