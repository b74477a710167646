"""What the camera told of every frame, shown by the files of a master where receivers saved it.

Unlike images these values are read for many frames at once, so one mapping is made for as many
frames as lie regularly in one file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import NDArray

from lima2_core.data.fields import FrameField
from lima2_core.system.outputs import SavedView
from processing.outputs.master_plan import FrameTable
from processing.sinks.nexus import make_group

GROUP = "frame_metadata"
_TOLD = "told by the camera for every frame; all bits set: nothing was told"
_PARTS = "; the second axis is the receiver, as each has a part of every frame"


@dataclass(frozen=True, slots=True)
class _Run:
    """Frames at equal distances whose rows in a file are at equal distances too."""

    frame: int
    frame_step: int
    row: int
    row_step: int
    count: int


def write_fields(
    file: h5py.File,
    detector: str,
    saved: SavedView,
    table: FrameTable,
    name_of: Callable[[int, int], bytes],
) -> None:
    """Make a virtual dataset for each field that all receivers have; nothing, if there is none.

    Shapes: (frames, *shape), or (frames, receivers, *shape) where each has a part of every frame.
    A field that is smaller for some receivers is filled up to the largest. ``name_of`` gives the
    file of a receiver by its number, as mappings want it.
    """
    own = [
        {name: FrameField.from_tree(name, tree) for name, tree in files.frame_fields.items()}
        for files in saved.files
    ]
    names = [name for name in own[0] if _is_common([fields.get(name) for fields in own])]
    if not names:
        return
    group = make_group(file[detector], GROUP, "NXcollection")
    group.attrs["description"] = _TOLD + (_PARTS if saved.placements else "")
    runs = [
        (receiver, number, run)
        for receiver, files in enumerate(saved.files)
        for number, run in _runs(table, receiver, files.rows_per_file)
    ]
    for name in names:
        fields = [one[name] for one in own]
        _make(file, f"{detector}/{GROUP}/{name}", saved, len(table), fields, runs, name_of)


def _is_common(fields: list[FrameField | None]) -> bool:
    """Whether all receivers have it, of one type and number of axes."""
    kinds = {None if one is None else (one.dtype, len(one.shape)) for one in fields}
    return len(kinds) == 1 and None not in kinds


def _make(
    file: h5py.File,
    path: str,
    saved: SavedView,
    frames: int,
    fields: list[FrameField],
    runs: list[tuple[int, int, _Run]],
    name_of: Callable[[int, int], bytes],
) -> None:
    first, in_parts = fields[0], bool(saved.placements)
    largest = tuple(max(sizes) for sizes in zip(*(one.shape for one in fields), strict=True))
    shape = (frames, *((len(fields),) if in_parts else ()), *largest)
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    properties.set_fill_value(np.full((), first.fill, first.dtype))
    target = h5s.create_simple(shape)
    # In the files of receivers the field stands at the same place.
    source_path = path.replace("%", "%%").encode()
    for receiver, number, run in runs:
        own = fields[receiver].shape
        source = h5s.create_simple((saved.files[receiver].rows_per_file, *own))
        _select(source, run.row, run.row_step, run.count, (), own)
        _select(target, run.frame, run.frame_step, run.count, (receiver,) * in_parts, own)
        properties.set_virtual(target, name_of(receiver, number), source_path, source)
    h5d.create(
        file.id,
        path.encode(),
        h5t.py_create(first.dtype, logical=True),
        h5s.create_simple(shape),
        properties,
    )
    file[path].attrs["units"] = first.unit
    file[path].attrs["description"] = first.doc


def _select(
    space: Any, first: int, step: int, count: int, between: tuple[int, ...], block: tuple[int, ...]
) -> None:
    """Select ``block`` in every ``step``-th of ``count`` places, at ``between`` in the others."""
    inner = len(between) + len(block)
    space.select_hyperslab(
        (first, *between, *(0 for _ in block)),
        (count, *(1,) * inner),
        (step, *(1,) * inner),
        (1, *(1 for _ in between), *block),
    )


def _runs(table: FrameTable, receiver: int, rows_per_file: int) -> Iterator[tuple[int, _Run]]:
    """The frames of a receiver as runs, each with the number of its file."""
    mine = (table.owners() == receiver) & (table.row >= 0)
    frames, parts = np.nonzero(mine)
    numbers, rows = np.divmod(table.row[frames, parts], rows_per_file)
    for number in np.unique(numbers).tolist():
        here = numbers == number
        for run in _regular(frames[here], rows[here]):
            yield number, run


def _regular(frames: NDArray[Any], rows: NDArray[Any]) -> Iterator[_Run]:
    """Cut frames and their rows where their distances change."""
    steps = list(zip(np.diff(frames).tolist(), np.diff(rows).tolist(), strict=True))
    first, count = 0, len(frames)
    while first < count:
        last, step = first, (1, 1)
        if first < len(steps) and steps[first][1] > 0:
            step = steps[first]
            while last < len(steps) and steps[last] == step:
                last += 1
        yield _Run(int(frames[first]), step[0], int(rows[first]), step[1], last - first + 1)
        first = last + 1
