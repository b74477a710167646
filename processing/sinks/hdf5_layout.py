"""What is where in a file: the NeXus tree, made once for all files of a run.

Making the groups, the attributes and the parameter trees takes HDF5 10 ms and more. So they are
made once in memory; every file starts as a copy of these bytes (see `hdf5_files`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import h5py
import numpy as np
from h5py import h5d, h5s, h5t

from lima2_core.data.fields import FrameField
from lima2_core.data.frame import FrameSpec, Validity
from processing.codecs import CODECS
from processing.saving import FileMetadata, SavingParams
from processing.sinks.nexus import (
    make_group,
    mark_data,
    version,
    with_units,
    write_marks,
    write_tree,
)

NO_FRAME_IDX = 2**32 - 1
"""In ``frame_idx``, where no row was written."""

_TIME = h5py.string_dtype("ascii", 32)
_ROWS_PER_SIDE_CHUNK = 65536
"""Large, so that nothing new has to be allocated while rows come."""
_MAX_SIDE_CHUNK_BYTES = 2**22
"""Of what a camera tells of every frame, which may be more than a number."""


@dataclass(frozen=True, slots=True)
class FileLayout:
    """Paths and shapes in the files of one run.

    Shapes: ``rows`` is how many a file can take; ``frame_shape`` what one row is.
    """

    entry: str
    detector: str
    """Path of the detector group."""
    rows: int
    frame_shape: tuple[int, ...]
    with_frame_idx: bool
    fields: tuple[FrameField, ...] = ()
    """What the camera tells of every frame."""

    @classmethod
    def of(
        cls,
        params: SavingParams,
        spec: FrameSpec,
        rows: int,
        with_frame_idx: bool,
        fields: Sequence[FrameField] = (),
    ) -> Self:
        """The layout that ``params`` ask for."""
        bands = spec.shape[0]
        flat = bands == 1 and params.nb_dimensions == "dim_3d_or_4d"
        return cls(
            entry=params.nx_entry_name,
            detector="/".join(
                (params.nx_entry_name, params.nx_instrument_name, params.nx_detector_name)
            ),
            rows=rows,
            frame_shape=spec.shape[1:] if flat else spec.shape,
            with_frame_idx=with_frame_idx,
            fields=tuple(fields),
        )

    @property
    def data(self) -> str:
        """Path of the frames."""
        return f"{self.detector}/data"

    @property
    def values(self) -> str:
        """Path of the dataset with the values of pixels."""
        return self.data

    @property
    def validity(self) -> str:
        """Path of the codes that say what became of each row."""
        return f"{self.detector}/validity"

    @property
    def frame_idx(self) -> str:
        """Path of the number of each row in the acquisition."""
        return f"{self.detector}/frame_idx"

    def field(self, name: str) -> str:
        """Path of something that the camera tells of every frame."""
        return f"{self.detector}/frame_metadata/{name}"

    @property
    def start_time(self) -> str:
        return f"{self.entry}/start_time"

    @property
    def end_time(self) -> str:
        return f"{self.entry}/end_time"


MakeData = Callable[[h5py.File, Any, SavingParams, FrameSpec], None]
"""File, its layout, and what is asked for; makes the frames and the links to them."""


def file_image(
    layout: FileLayout,
    params: SavingParams,
    spec: FrameSpec,
    metadata: FileMetadata,
    make_data: MakeData | None = None,
) -> bytes:
    """The bytes of a file without a row; with images, if nothing else ``make_data``.

    Raises:
        ImportError: the filter of the compression is not installed.
        OSError, TypeError, ValueError: HDF5 refuses something.
    """
    # Nothing is written to the disk; but HDF5 knows such files by their name.
    with h5py.File(
        f"lima2-{uuid.uuid4().hex}", "w", driver="core", backing_store=False, libver="earliest"
    ) as file:
        _make_groups(file, layout, params, metadata)
        make = make_data or partial(_make_images, fill=metadata.fill)
        make(file, layout, params, spec)
        mark_data(file[layout.values], metadata.marks)
        _make_matrix(file[layout.detector], spec)
        write_marks(file[layout.detector], metadata.marks, spec.dtype)
        _make_side_data(file, layout)
        _make_fields(file, layout)
        file.flush()
        return bytes(file.id.get_file_image())


def _make_groups(
    file: h5py.File, layout: FileLayout, params: SavingParams, metadata: FileMetadata
) -> None:
    """The chain of groups in which ``default`` leads from the root to the plot."""
    suite_version = version()
    # HDF5 writes names in sorted order; readers find the plot by these attributes alone.
    file.attrs.update(
        NX_class="NXroot",
        default=params.nx_entry_name,
        creator="lima2-suite",
        creator_version=suite_version,
    )
    entry = make_group(file, params.nx_entry_name, "NXentry", params.nx_instrument_name)
    entry["entry_identifier_uuid"] = metadata.acq_id
    entry["program_name"] = "lima2-suite"
    entry["program_name"].attrs["version"] = suite_version
    # Of fixed length and with a place in the file, so that the times can be put in later, on a
    # full disk too: what HDF5 cannot write as it lets go of a dataset it may die of later.
    entry.create_dataset("start_time", (), _TIME, data=b"")
    entry.create_dataset("end_time", (), _TIME, data=b"")
    instrument = make_group(
        entry, params.nx_instrument_name, "NXinstrument", params.nx_detector_name
    )
    detector = make_group(instrument, params.nx_detector_name, "NXdetector", "plot")
    about = make_group(detector, "detector_information", "NXcollection")
    write_tree(about, with_units(metadata.detector))
    trees = make_group(detector, "params", "NXcollection")
    write_tree(make_group(trees, "acquisition", "NXcollection"), metadata.acquisition)
    write_tree(make_group(trees, "processing", "NXcollection"), metadata.processing)
    for name, tree in metadata.collections.items():
        write_tree(make_group(detector, name, "NXcollection"), tree)


def _make_images(
    file: h5py.File, layout: FileLayout, params: SavingParams, spec: FrameSpec, *, fill: float
) -> None:
    """The dataset of the frames: one chunk each, as many as the file can take; and its links."""
    shape = (layout.rows, *layout.frame_shape)
    properties = CODECS[params.compression].creation_properties((1, *layout.frame_shape))
    properties.set_fill_value(np.full((), fill, spec.dtype))
    h5d.create(
        file.id,
        layout.data.encode(),
        h5t.py_create(spec.dtype, logical=True),
        h5s.create_simple(shape, shape),
        properties,
    )
    attrs = file[layout.data].attrs
    attrs["interpretation"] = "image"
    attrs["units"] = spec.unit
    _make_links(file, layout)


def _make_matrix(detector: h5py.Group, spec: FrameSpec) -> None:
    back = detector.create_dataset("image_to_detector", data=spec.affine.matrix)
    back.attrs["description"] = (
        "(row, col, 1) of a pixel of the image -> (row, col, 1) on the detector, in pixels"
    )


def _make_side_data(file: h5py.File, layout: FileLayout) -> None:
    """What is known about each row; the fill values say that a row was not written."""
    detector = file[layout.detector]
    chunks = (min(layout.rows, _ROWS_PER_SIDE_CHUNK),)
    shape = {"shape": (layout.rows,), "maxshape": (layout.rows,), "chunks": chunks}
    codes = {code.name: int(code) for code in Validity}
    detector.create_dataset(
        "validity",
        dtype=h5py.enum_dtype(codes, basetype=np.uint8),
        fillvalue=np.uint8(Validity.CRASH),
        **shape,
    )
    if layout.with_frame_idx:
        detector.create_dataset(
            "frame_idx", dtype=np.uint32, fillvalue=np.uint32(NO_FRAME_IDX), **shape
        )


def _make_fields(file: h5py.File, layout: FileLayout) -> None:
    """What the camera tells of each frame; the fill values say that it told nothing."""
    if not layout.fields:
        return
    group = make_group(file[layout.detector], "frame_metadata", "NXcollection")
    group.attrs["description"] = "told by the camera for every row; all bits set: nothing was told"
    for field in layout.fields:
        most = max(1, _MAX_SIDE_CHUNK_BYTES // max(1, field.nbytes))
        shape = (layout.rows, *field.shape)
        dataset = group.create_dataset(
            field.name,
            dtype=field.dtype,
            shape=shape,
            maxshape=shape,
            chunks=(min(layout.rows, _ROWS_PER_SIDE_CHUNK, most), *field.shape),
            fillvalue=field.fill,
        )
        dataset.attrs["units"] = field.unit
        dataset.attrs["description"] = field.doc


def _make_links(file: h5py.File, layout: FileLayout) -> None:
    """Where readers look for the frames."""
    data = file[layout.data]
    plot = make_group(file[layout.detector], "plot", "NXdata")
    plot.attrs["signal"] = "data"
    plot["data"] = data
    make_group(file[layout.entry], "measurement", "NXcollection")["data"] = data
