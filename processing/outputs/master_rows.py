"""The files of receivers, seen from outside: what survived a crash."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import PRESENT, Validity
from lima2_core.flow.pipeline import SavedFiles
from processing.outputs.master_plan import receiver_file

log = logging.getLogger(__name__)


def readable_rows(files: SavedFiles, flushed: int) -> int:
    """Rows that can be read from the files of a receiver that died or was stopped; gaps count.

    Args:
        files: where it saved them.
        flushed: rows that it told to be safe, before.
    """
    number = flushed // files.rows_per_file
    while True:
        first = number * files.rows_per_file
        rows = _rows_in(receiver_file(files, number), files)
        if rows < files.rows_per_file:
            return first + rows
        number += 1


def beside_frames(files: SavedFiles, name: str, first: int, end: int) -> NDArray[Any] | None:
    """What stands beside the rows of a receiver from ``first`` to ``end``, such as ``validity``.

    Returns:
        None if its files do not have it, or there are no such rows.
    """
    found: list[NDArray[Any]] = []
    size = files.rows_per_file
    for number in range(first // size, -(-end // size)):
        low, high = max(first - number * size, 0), min(end - number * size, size)
        try:
            with h5py.File(receiver_file(files, number), "r", locking=False) as file:
                found.append(file[f"{files.detector}/{name}"][low:high])
        except (OSError, RuntimeError, ValueError, KeyError):
            return None
    return np.concatenate(found) if found else None


def _rows_in(path: Path, files: SavedFiles) -> int:
    """Rows of one file that were flushed.

    The codes of rows and the index of their chunks are flushed one after the other, so both
    have to know a row.
    """
    try:
        # A receiver that was stopped still holds its lock; what it flushed is there.
        with h5py.File(path, "r", locking=False) as file:
            codes = file[f"{files.detector}/validity"][:]
            data = file[files.dataset]
            is_written = _hits_written(data, len(codes)) if files.hits else _chunks(data)
    except FileNotFoundError:
        return 0
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        log.warning("The frames in %s are lost: it cannot be read (%s).", path, error)
        return 0
    there = np.isin(codes, PRESENT)
    lost = (codes == Validity.CRASH) | (there & ~is_written)
    return int(lost.argmax()) if lost.any() else len(codes)


def _chunks(data: h5py.Dataset) -> NDArray[np.bool_]:
    """Which chunks of a dataset were written, along its first axis."""
    size = data.chunks[0]
    written = np.zeros(-(-len(data) // size), np.bool_)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        written[chunk.chunk_offset[0] // size] = True

    data.id.chunk_iter(note)
    return written


def _hits_written(data: h5py.Group, rows: int) -> NDArray[np.bool_]:
    """Of which rows all hits were written."""
    pointers = np.asarray(data["frame_ptr"][: rows + 1], np.int64)
    limit = len(data["index"])
    for name in ("index", "intensity"):
        written = _chunks(data[name])
        if not written.all():
            limit = min(limit, int(written.argmin()) * data[name].chunks[0])
        limit = min(limit, len(data[name]))
    return np.asarray((pointers[1:] >= pointers[:-1]) & (pointers[1:] <= limit))
