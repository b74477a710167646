"""Of masters that show hits: do they show those of every frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.files import HDF5_ERRORS, MasterFile, hits_between
from client.frames import THERE
from client.validate_places import Led, Table, source_names
from client.validate_sources import Anomaly, Rows, Sources, ranges

_COLUMNS = ("index", "intensity")


def followed_hits(
    where: str, data: Any, table: Table, sources: Sources, path: str
) -> Iterator[Anomaly]:
    """The hits of every frame to the rows that they are read from.

    Args:
        where: what anomalies name.
        data: group of hits, of a segment or of the index.
        table: where its frames are.
        sources: files of receivers.
        path: of the group of hits in these.
    """
    pointers = np.asarray(data["frame_ptr"][()], np.int64)
    counts = np.diff(pointers)
    sizes = {len(data[name]) for name in _COLUMNS}
    if len(counts) != len(table.row):
        yield Anomaly(where, f"it shows {len(counts)} frames of {len(table.row)}")
        return
    if pointers[0] != 0 or (counts < 0).any() or sizes != {int(pointers[-1])}:
        yield Anomaly(where, "frame_ptr does not divide its hits")
        return
    filled = np.flatnonzero((table.row < 0).all(axis=1) & (counts > 0))
    if len(filled):
        yield Anomaly(where, f"gaps {ranges(filled + table.first)} have hits")
    index, intensity = (_mappings(data[name]) for name in _COLUMNS)
    if index != intensity:
        yield Anomaly(where, "index and intensity lead to different hits")
        return
    mapped = np.zeros(len(counts), np.int64)
    wrong: dict[str, list[int]] = {}
    led: list[tuple[int, int, int, int]] = []
    for file_name, target, source, count in intensity:
        file = table.folder / file_name
        first = int(np.searchsorted(pointers, target, "right")) - 1
        last = int(np.searchsorted(pointers, target + count, "left"))
        found = sources.look(file, f"{path}/intensity")
        if isinstance(found, str):
            wrong.setdefault(f"need {file.name}: {found}", []).extend(range(first, last))
            mapped[first:last] = counts[first:last]
            continue
        of_file = table.named(file.name)
        for at, size, row, what in _rows_of(found, source, count, file.name):
            frame = int(np.searchsorted(pointers, target + at - source, "right")) - 1
            if what:
                wrong.setdefault(what, []).append(frame)
            if row >= 0:
                led.append((frame, *of_file, row))
            mapped[frame] += size
    for what, frames in wrong.items():
        yield Anomaly(where, f"frames {ranges(np.unique(frames) + table.first)} {what}")
    if (mapped != counts).any():
        others = np.flatnonzero(mapped != counts) + table.first
        yield Anomaly(where, f"frames {ranges(others)} have other hits than the rows they lead to")
    shown = Led(*np.array(led, np.int64).reshape(-1, 4).T)
    missed = _elsewhere(shown, table, sources, f"{path}/intensity")
    if len(missed):
        yield Anomaly(
            where,
            f"frames {ranges(missed + table.first)} have hits of other rows than they have",
        )


def _elsewhere(led: Led, table: Table, sources: Sources, dataset: str) -> NDArray[np.int64]:
    """The frames with hits of a row that is not theirs, or without those of their row."""
    wrong = table.elsewhere(led, sources, dataset)
    shown = np.zeros(table.row.shape, np.bool_)
    shown[led.frame[~wrong], table.place(led)[~wrong]] = True
    missed = np.zeros(len(table.row), np.bool_)
    missed[led.frame[wrong]] = True
    for file, frame, part, row in table.by_file(sources, dataset):
        found = sources.look(file, dataset)
        if not isinstance(found, str):
            there = (row < len(found.codes)) & ~shown[frame, part]
            counts = np.diff(found.pointers)[row[there]]
            missed[frame[there][counts > 0]] = True
    return np.flatnonzero(missed)


def _mappings(dataset: Any) -> list[tuple[str, int, int, int]]:
    """File, first place in the master, first place in the file, and number of hits."""
    if not dataset.is_virtual:
        return []
    found = []
    for one in dataset.virtual_sources():
        target, _, _, block = one.vspace.get_regular_hyperslab()
        source = one.src_space.get_regular_hyperslab()[0]
        count = one.vspace.get_select_npoints() if block else 0
        found.append((source_names(one)[0], int(target[0]), int(source[0]), int(count)))
    return sorted(found, key=lambda one: one[1])


def _rows_of(rows: Rows, first: int, count: int, name: str) -> Iterator[tuple[int, int, int, str]]:
    """The rows of a file that hits belong to: first hit, number, row, what is wrong."""
    at, end = first, first + count
    while at < end:
        row = int(np.searchsorted(rows.pointers, at, "right")) - 1
        if row + 1 >= len(rows.pointers):
            yield at, end - at, -1, f"need hits that {name} does not have"
            return
        begin, stop = int(rows.pointers[row]), int(rows.pointers[row + 1])
        what = ""
        if begin != at or stop > end:
            what = f"have a part of the hits of a row of {name}"
        elif rows.codes[row] not in THERE:
            what = f"are not valid in {name}"
        elif not rows.written[row]:
            what = f"were never written to {name}"
        yield at, min(stop, end) - at, row, what
        at = stop


def read_hits(where: str, data: Any, first: int) -> Iterator[Anomaly]:
    """Read every hit: is it in the image, and does it reach the threshold."""
    rows, cols = (int(one) for one in data.attrs["image_shape"])
    least = float(data.attrs["threshold"])
    pointers = np.asarray(data["frame_ptr"][()], np.int64)
    outside: list[int] = []
    below: list[int] = []
    unreadable: list[int] = []
    reason = ""
    for n in range(len(pointers) - 1):
        try:
            index, intensity = hits_between(data, *pointers[n : n + 2].tolist())
        except HDF5_ERRORS as error:
            unreadable.append(n)
            reason = reason or str(error)
            continue
        if len(index) and (index.min() < 0 or index.max() >= rows * cols):
            outside.append(n)
        if (intensity < least).any():
            below.append(n)
    for frames, what in (
        (unreadable, f"cannot be read: {reason}"),
        (outside, "have hits outside the image"),
        (below, f"have hits below the threshold {least:g}"),
    ):
        if frames:
            yield Anomaly(where, f"frames {ranges(np.array(frames) + first)} {what}")


def whole_hits(where: str, master: MasterFile, whole: Any) -> Iterator[Anomaly]:
    """The hits of all frames in one group, against those in the segments."""
    pointers = np.asarray(whole["frame_ptr"][()], np.int64)
    if len(pointers) - 1 != len(master):
        yield Anomaly(where, f"it has {len(pointers) - 1} frames of {len(master)}")
        return
    wrong: list[int] = []
    for segment in master.segments:
        try:
            part = master.segment(segment)[segment.name]
            ends = np.asarray(part["frame_ptr"][()], np.int64)
            for n in range(segment.length):
                own = hits_between(part, *ends[n : n + 2].tolist())
                at = segment.first + n
                here = hits_between(whole, *pointers[at : at + 2].tolist())
                if not all(map(np.array_equal, here, own)):
                    wrong.append(segment.first + n)
        except HDF5_ERRORS:
            continue  # told of the segment
    if wrong:
        yield Anomaly(where, f"frames {ranges(wrong)} differ from those in the segments")
