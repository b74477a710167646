"""What is where in files of sparse frames; besides that they are as those of images."""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np
from h5py import h5d, h5s, h5t

from lima2_core.data.frame import FrameSpec
from processing.codecs import CODECS
from processing.kernels.hits import INDEX
from processing.saving import SavingParams
from processing.sinks.hdf5_layout import FileLayout
from processing.sinks.nexus import make_group

CHUNK_HITS = 8192
"""Hits that are packed together: 32 KiB of positions, few enough for files of few hits."""
_MAX_POINTER_CHUNK = 8192


@dataclass(frozen=True, slots=True)
class SparseLayout(FileLayout):
    """Paths in files of sparse frames; ``data`` is a group."""

    @property
    def values(self) -> str:
        return self.intensity

    @property
    def index(self) -> str:
        """Positions of all hits, frame after frame."""
        return f"{self.data}/index"

    @property
    def intensity(self) -> str:
        """Their values."""
        return f"{self.data}/intensity"

    @property
    def frame_ptr(self) -> str:
        """The hits of row k are those from entry k to entry k + 1 (not included)."""
        return f"{self.data}/frame_ptr"

    @property
    def index_rows(self) -> str:
        """Positions again, with a row for each frame."""
        return f"{self.detector}/index"

    @property
    def intensity_rows(self) -> str:
        return f"{self.detector}/intensity"


@dataclass(frozen=True, slots=True)
class HitsDetails:
    """What files tell of their hits.

    Shapes: ``image_shape`` (rows, cols) of whole images, in which positions count.
    """

    image_shape: tuple[int, int]
    threshold: float


def describe_hits(group: h5py.Group, details: HitsDetails, unit: str) -> None:
    """The attributes of a group with the three datasets, in files of receivers and masters."""
    group.attrs["signal"] = "intensity"
    group.attrs["image_shape"] = np.array(details.image_shape, np.int64)
    group.attrs["threshold"] = details.threshold
    group.attrs["description"] = (
        "pixels from the threshold on; those of row k are index[frame_ptr[k]:frame_ptr[k + 1]]"
    )
    group["index"].attrs["description"] = "position in the image: row * columns + column"
    group["intensity"].attrs["units"] = unit


def make_hits(
    file: h5py.File,
    layout: SparseLayout,
    params: SavingParams,
    spec: FrameSpec,
    details: HitsDetails,
) -> None:
    """The group of hits, empty, and the links to it."""
    group = make_group(file[layout.detector], layout.data.rpartition("/")[2], "NXdata")
    for path, dtype in ((layout.index, INDEX), (layout.intensity, spec.dtype)):
        h5d.create(
            file.id,
            path.encode(),
            h5t.py_create(dtype, logical=True),
            h5s.create_simple((0,), (h5s.UNLIMITED,)),
            CODECS[params.compression].creation_properties((CHUNK_HITS,)),
        )
    shape = (layout.rows + 1,)
    # What no row has told of reads 0, which ends behind its begin: no hits.
    group.create_dataset(
        "frame_ptr",
        dtype=np.uint64,
        shape=shape,
        maxshape=shape,
        chunks=(min(layout.rows + 1, _MAX_POINTER_CHUNK),),
    )
    describe_hits(group, details, spec.unit)
    file[layout.detector].attrs["default"] = "data"
    make_group(file[layout.entry], "measurement", "NXcollection")["data"] = group
