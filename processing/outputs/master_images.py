"""The images of a master: virtual datasets over the files of the receivers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from lima2_core.system.outputs import SavedView
from processing.outputs.master_plan import FrameTable, band_path
from processing.sinks.nexus import mark_data

NameOf = Callable[[int, int], bytes]
"""The file of a receiver by its number, as mappings want it."""


def escaped(name: str) -> bytes:
    """A name as HDF5 wants it in mappings, where % begins a pattern."""
    return os.fsencode(name.replace("%", "%%"))


def write_images(file: h5py.File, saved: SavedView, table: FrameTable, name_of: NameOf) -> None:
    """Make a virtual dataset of all frames, and one of each band if frames have an axis for it."""
    path = saved.files[0].dataset
    _make_data(file, path, saved, table, None, name_of)
    if saved.files[0].bands_axis:
        for band in range(saved.spec.shape[0]):
            _make_data(file, band_path(path, band), saved, table, band, name_of)


def _make_data(
    file: h5py.File,
    path: str,
    saved: SavedView,
    table: FrameTable,
    band: int | None,
    name_of: NameOf,
) -> None:
    """A virtual dataset of all frames, or of one band of them."""
    spec = saved.spec
    flat = band is not None or not saved.files[0].bands_axis
    shape = (len(table), *(spec.shape[1:] if flat else spec.shape))
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    properties.set_fill_value(np.full((), saved.fill, spec.dtype))
    _map(properties, saved, table, shape, band, name_of)
    h5d.create(
        file.id,
        path.encode(),
        h5t.py_create(spec.dtype, logical=True),
        h5s.create_simple(shape),
        properties,
    )
    file[path].attrs["interpretation"] = "image"
    file[path].attrs["units"] = spec.unit
    mark_data(file[path], saved.files[0].marks)


def _map(
    properties: Any,
    saved: SavedView,
    table: FrameTable,
    shape: tuple[int, ...],
    band: int | None,
    name_of: NameOf,
) -> None:
    """One mapping for each frame, or part of one: with strides reading is 50 times slower.

    h5py's own VirtualLayout does the same in four times the time.
    """
    target = h5s.create_simple(shape)
    places = [_place(saved, receiver, shape, band) for receiver in range(len(saved.files))]
    names: dict[tuple[int, int], bytes] = {}
    data = escaped(saved.files[0].dataset)
    owners = table.owners()
    for n, part in np.argwhere(table.row >= 0).tolist():
        receiver = int(owners[n, part])
        place = places[receiver]
        number, row = divmod(int(table.row[n, part]), place.rows_per_file)
        name = names.get((receiver, number))
        if name is None:
            name = names[receiver, number] = name_of(receiver, number)
        target.select_hyperslab((n, *place.start), place.one, block=place.block)
        place.source.select_hyperslab((row, *place.inner), place.inner_one, block=place.step)
        properties.set_virtual(target, name, data, place.source)


def _place(saved: SavedView, receiver: int, shape: tuple[int, ...], band: int | None) -> _Place:
    """Where the rows of a receiver come from, and go to."""
    files = saved.files[receiver]
    bands, rows, cols = saved.part_specs[receiver].shape
    corner = (0, 0)
    if saved.placements:
        corner = (saved.placements[receiver].row, saved.placements[receiver].col)
    in_file = (bands, rows, cols) if files.bands_axis else (rows, cols)
    taken = (1, rows, cols) if band is not None else in_file
    return _Place(
        rows_per_file=files.rows_per_file,
        source=h5s.create_simple((files.rows_per_file, *in_file)),
        start=(0,) * (len(shape) - 3) + corner,
        block=(1, *(taken if len(shape) == 4 else (rows, cols))),
        one=(1,) * len(shape),
        inner=(band or 0, 0, 0)[-len(in_file) :],
        inner_one=(1,) * (len(in_file) + 1),
        step=(1, *taken[-len(in_file) :]),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Selections of one frame of a receiver: ``inner`` in its file, ``start`` in the master."""

    rows_per_file: int
    source: Any
    start: tuple[int, ...]
    block: tuple[int, ...]
    one: tuple[int, ...]
    inner: tuple[int, ...]
    inner_one: tuple[int, ...]
    step: tuple[int, ...]
