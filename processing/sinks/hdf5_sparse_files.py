"""Files of sparse frames that grow row by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5s
from numpy.typing import NDArray

from lima2_core.data.frame import Validity
from lima2_core.ids import FrameIdx
from processing.codecs import Codec
from processing.hits import Hits
from processing.kernels.hits import INDEX
from processing.sinks.hdf5_files import RowFile
from processing.sinks.hdf5_sparse_layout import CHUNK_HITS, SparseLayout
from processing.sinks.space import Space

_UNPACKED = 1
"""Mask that says that a chunk did not go through the first filter."""
_MARGIN_BYTES = 2**18
"""For what HDF5 writes besides: indices of chunks, the tree of groups."""
_INDEX_BYTES_PER_CHUNK = 256
_SIDE_BYTES = 48
"""Of a row in all datasets that have one for each frame, without its hits."""
_SIDE_ROWS = 65536
"""For so many rows ahead there is space for what stands beside the hits."""
_HEAP_BYTES = 4096
"""HDF5 keeps rows of any length together in pieces of this size."""
_COPIED_HITS = 2**20
"""Read at once when the rows are written again."""


MakeRoom = Callable[[int], None]


class SparseFile(RowFile):
    """A file with the hits of all its frames one after the other.

    Hits go to the disk in packed chunks. What a flush finds of an incomplete chunk goes there
    unpacked, with the space of a complete one, and the chunk stays so: it is never moved, and
    what was flushed survives whatever happens. For all that is still to be written space is held
    on the disk, so on a full one a row is refused before anything is changed.

    Args:
        by_frame: whether a complete file has the hits of each frame as a row of their own, too.
    """

    def __init__(
        self,
        path: Path,
        draft: Path,
        image: bytes,
        layout: SparseLayout,
        wall_s: float,
        *,
        codec: Codec,
        dtype: np.dtype[Any],
        by_frame: bool,
    ) -> None:
        self._side_bytes = _SIDE_BYTES + sum(field.nbytes for field in layout.fields)
        self._space = Space(path.parent)
        try:
            self._space.hold(_MARGIN_BYTES + min(layout.rows, _SIDE_ROWS) * self._side_bytes)
            super().__init__(path, draft, image, layout, wall_s)
        except BaseException:
            self._space.give_back()
            raise
        self._paths = layout
        self._index = _Column(self._file[layout.index], INDEX, codec)
        self._intensity = _Column(self._file[layout.intensity], dtype, codec)
        self._pointers: list[int] = []
        """Ends of rows that are not in the file yet."""
        self._by_frame = by_frame
        self._rows_bytes = 0
        """Of the rows with the hits of frames, at most."""

    def add(self, idx: FrameIdx, hits: Hits) -> None:
        """Write the next row. After an error: `finish`."""
        told = self._told(hits.fields)
        if hits.intensity.dtype != self._intensity.dtype:
            raise ValueError(f"hits of {hits.intensity.dtype} came, not {self._intensity.dtype}")
        columns = ((self._index, hits.index), (self._intensity, hits.intensity))
        chunk_bytes = sum(column.bytes_of(len(hits)) for column, _ in columns)
        rows_bytes = self._rows_bytes
        if self._by_frame:
            rows_bytes += sum(_heap_bytes(values.nbytes) for _, values in columns)
        self._space.hold(self._held_bytes + chunk_bytes + rows_bytes - self._rows_bytes)
        self._rows_bytes = rows_bytes
        for column, values in columns:
            column.append(values, self._make_room)
        self._pointers.append(self._index.size)
        self._note(idx, hits.validity, told)

    def add_gap(self, idx: FrameIdx, cause: Validity) -> None:
        self._pointers.append(self._index.size)
        super().add_gap(idx, cause)

    def flush(self) -> None:
        self._make_room(_MARGIN_BYTES // 2)
        super().flush()
        self._space.hold(self._held_bytes)

    def finish(self, wall_s: float, *, keep_empty: bool = False) -> None:
        self._space.give_back()
        super().finish(wall_s, keep_empty=keep_empty)

    @property
    def _held_bytes(self) -> int:
        """What will be written later in any case."""
        tails = self._index.tail_bytes + self._intensity.tail_bytes
        side_rows = min(self._layout.rows, self.rows + _SIDE_ROWS)
        return _MARGIN_BYTES + side_rows * self._side_bytes + self._rows_bytes + tails

    def _make_room(self, nbytes: int) -> None:
        """Something of so many bytes is written now, for which space is held."""
        self._space.shrink(max(0, self._space.nbytes - nbytes - _INDEX_BYTES_PER_CHUNK))

    def _write_side_data(self) -> None:
        for column in (self._index, self._intensity):
            column.write_tail(self._make_room)
        if self._pointers:
            last = self.rows + 1
            self._write_rows(
                self._paths.frame_ptr, slice(last - len(self._pointers), last), self._pointers
            )
            self._pointers.clear()
        super()._write_side_data()

    def _write_rest(self) -> None:
        if not self._by_frame:
            return
        self._file.flush()
        self._index.let_go()
        self._intensity.let_go()
        pointers = self._file[self._paths.frame_ptr][: self.rows + 1]
        for path, flat_path in (
            (self._paths.index_rows, self._paths.index),
            (self._paths.intensity_rows, self._paths.intensity),
        ):
            _write_by_frame(self._file, path, self._file[flat_path], pointers)

    def _cut(self, file: h5py.File) -> None:
        super()._cut(file)
        if self.rows < self._layout.rows:
            file[self._paths.frame_ptr].resize(self.rows + 1, axis=0)


class _Column:
    """One value of all hits, as it grows.

    ``make_room`` is called with the bytes that are to be written, right before they are.
    """

    def __init__(self, dataset: h5py.Dataset, dtype: np.dtype[Any], codec: Codec) -> None:
        self.dtype = dtype
        self.size = 0
        self._dataset: h5d.DatasetID | None = dataset.id
        self._codec = codec
        self._skip = 0 if codec.name == "none" else _UNPACKED
        self._tail = np.zeros(CHUNK_HITS, dtype)
        self._filled = 0
        self._written = 0
        """Of these, in the file."""

    def bytes_of(self, hits: int) -> int:
        """What has to be on the disk at most for so many more, besides `tail_bytes`."""
        chunks = -(-(self._filled + hits) // CHUNK_HITS)
        # Packing can make chunks a bit larger.
        return chunks * (self._tail.nbytes + self._tail.nbytes // 64 + 64 + _INDEX_BYTES_PER_CHUNK)

    @property
    def tail_bytes(self) -> int:
        """What will be written of the incomplete chunk."""
        return 0 if self._written or not self._filled else self._tail.nbytes

    def append(self, values: NDArray[Any], make_room: MakeRoom) -> None:
        """Take values; chunks that become complete are written."""
        done = 0
        while done < len(values):
            part = values[done : done + CHUNK_HITS - self._filled]
            self._tail[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            self.size += len(part)
            done += len(part)
            if self._filled == CHUNK_HITS:
                self._write_full(make_room)

    def write_tail(self, make_room: MakeRoom) -> None:
        """Write the incomplete chunk, as far as it is not written."""
        if self._filled > self._written:
            self._write(self._tail, self._skip, make_room)
            self._written = self._filled

    def _write_full(self, make_room: MakeRoom) -> None:
        if self._written:
            self._write(self._tail, self._skip, make_room)  # in its place
        else:
            self._write(self._codec.encode(self._tail), 0, make_room)
        self._filled = self._written = 0

    def _write(self, chunk: bytes | NDArray[Any], mask: int, make_room: MakeRoom) -> None:
        if not self._written:
            make_room(len(chunk) if isinstance(chunk, bytes) else chunk.nbytes)
        if self._dataset is None:
            raise ValueError("the file is complete")
        self._dataset.set_extent((self.size,))
        first = (self.size - 1) // CHUNK_HITS * CHUNK_HITS
        self._dataset.write_direct_chunk((first,), chunk, mask)

    def let_go(self) -> None:
        """Write no more, and close the dataset.

        As long as it is open HDF5 takes the last chunk for packed even if it was written unpacked.
        """
        self._dataset = None


def _heap_bytes(nbytes: int) -> int:
    """What a row of so many bytes takes in the file at most."""
    own = 16 + -(-nbytes // 8) * 8
    return 16 + (2 * own if own < _HEAP_BYTES else own + _HEAP_BYTES)


def _write_by_frame(
    file: h5py.File, path: str, flat: h5py.Dataset, pointers: NDArray[np.uint64]
) -> None:
    """A dataset with the part of ``flat`` of each frame as a row, each of its own length."""
    rows = len(pointers) - 1
    ends = pointers.astype(np.int64)
    kind = h5py.vlen_dtype(flat.dtype)
    dataset = file.create_dataset(path, (rows,), kind).id
    target = h5s.create_simple((rows,))
    first = 0
    while first < rows:
        last = max(first + 1, int(np.searchsorted(ends, ends[first] + _COPIED_HITS, "right")) - 1)
        values = flat[ends[first] : ends[last]]
        cut = np.empty(last - first, kind)
        for n, piece in enumerate(np.split(values, ends[first + 1 : last] - ends[first])):
            cut[n] = piece
        target.select_hyperslab((first,), (last - first,))
        # Assigning them would make one array of arrays that happen to be of the same length.
        dataset.write(h5s.create_simple((last - first,)), target, cut)
        first = last
