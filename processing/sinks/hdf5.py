"""Rows into HDF5/NeXus files of images, a fixed number in each.

Nothing is imported from h5py before `Hdf5Sink.open`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lima2_core.flow.sink import Row
from processing.codecs import EncodedChunk
from processing.sinks.hdf5_rows import RowFilesSink

if TYPE_CHECKING:
    from processing.sinks.hdf5_files import GrowingFile
    from processing.sinks.hdf5_layout import FileLayout


def preload() -> None:
    """Import what saving needs; for a background thread at start.

    Raises:
        ImportError: a library is not installed.
    """
    from processing import codecs
    from processing.sinks import hdf5_files  # noqa: F401  imported for its own imports

    codecs.preload()


class Hdf5Sink(RowFilesSink["GrowingFile"]):
    """Write `EncodedChunk` rows.

    The rows of gaps are not written: they read as the fill value, and `validity` tells why.
    """

    name = "hdf5"

    def _layout_of(self, rows: int) -> tuple[FileLayout, bytes]:
        from processing.sinks.hdf5_layout import FileLayout, file_image

        layout = FileLayout.of(self._params, self._spec, rows, self._with_frame_idx, self._fields)
        return layout, file_image(layout, self._params, self._spec, self._metadata)

    def _start_file(self, path: Path, layout: FileLayout, image: bytes) -> GrowingFile:
        from processing.sinks.hdf5_files import GrowingFile

        return GrowingFile(path, self._params.draft, image, layout, self._clock.wall_s())

    def _put(self, file: GrowingFile, row: Row) -> int:
        chunk = row.value
        if not isinstance(chunk, EncodedChunk):
            raise ValueError(f"a {type(chunk).__name__} is neither a packed frame nor a gap")
        file.add(row.idx, chunk.validity, chunk.data, chunk.fields)
        return chunk.nbytes
