"""Sparse frames into HDF5 files, a fixed number of frames in each.

Nothing is imported from h5py before `SparseSink.open`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lima2_core.clock import Clock
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import FrameSpec
from lima2_core.flow.sink import Row
from processing.codecs import CODECS
from processing.hits import Crowd, Hits
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5_rows import RowFilesSink

if TYPE_CHECKING:
    from processing.sinks.hdf5_layout import FileLayout
    from processing.sinks.hdf5_sparse_files import SparseFile


class SparseSink(RowFilesSink["SparseFile"]):
    """Write `Hits`, and those of a `Crowd`.

    Gaps have a row without hits, and `validity` tells why. File 0 is there after any run that
    ended well, as readers wait for it.

    Args:
        image_shape: rows and columns of whole images, in which positions count.
        threshold: what a pixel has to reach, for the files.
        by_frame: whether files have the hits of each frame as a row of their own, too.

    Others as for `RowFilesSink`.
    """

    name = "hdf5_sparse"
    even_empty = True

    def __init__(
        self,
        params: SavingParams,
        spec: FrameSpec,
        metadata: FileMetadata,
        *,
        image_shape: tuple[int, int],
        threshold: float = 1.0,
        by_frame: bool = True,
        expected_rows: int | None = None,
        with_frame_idx: bool = False,
        fields: Sequence[FrameField] = (),
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            params,
            spec,
            metadata,
            expected_rows=expected_rows,
            with_frame_idx=with_frame_idx,
            fields=fields,
            clock=clock,
        )
        self._image_shape = image_shape
        self._threshold = threshold
        self._by_frame = by_frame

    def _layout_of(self, rows: int) -> tuple[FileLayout, bytes]:
        from processing.sinks.hdf5_layout import file_image
        from processing.sinks.hdf5_sparse_layout import HitsDetails, SparseLayout, make_hits

        params, spec = self._params, self._spec
        layout = SparseLayout.of(params, spec, rows, self._with_frame_idx, self._fields)
        make = partial(make_hits, details=HitsDetails(self._image_shape, self._threshold))
        return layout, file_image(layout, params, spec, self._metadata, make)

    def _start_file(self, path: Path, layout: FileLayout, image: bytes) -> SparseFile:
        from processing.sinks.hdf5_sparse_files import SparseFile
        from processing.sinks.hdf5_sparse_layout import SparseLayout

        if not isinstance(layout, SparseLayout):
            raise ValueError("the layout is not that of sparse frames")
        return SparseFile(
            path,
            self._params.draft,
            image,
            layout,
            self._clock.wall_s(),
            codec=CODECS[self._params.compression],
            dtype=self._spec.dtype,
            by_frame=self._by_frame,
        )

    def _put(self, file: SparseFile, row: Row) -> int:
        if not isinstance(row.value, Hits | Crowd):
            raise ValueError(f"a {type(row.value).__name__} is neither a sparse frame nor a gap")
        hits = row.value.hits()
        file.add(row.idx, hits)
        return hits.index.nbytes + hits.intensity.nbytes
