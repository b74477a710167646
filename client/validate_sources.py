"""The files of receivers behind a master, as its checks look at them, and what is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.files import HDF5_ERRORS, detector_of, hdf5


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that is not as it should be."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What is known of the rows of a file.

    Shapes: ``codes``, ``written`` (rows,); ``frame_idx`` (rows,), or (0,) if the file has none;
    ``pointers`` (rows + 1,), or (0,) of images.
    """

    codes: NDArray[np.uint8]
    """Class of each row."""
    written: NDArray[np.bool_]
    """Whether it has data behind it."""
    frame_idx: NDArray[np.int64]
    """Index of each row in the acquisition."""
    pointers: NDArray[np.int64]
    """Where the hits of each row begin, and the last ones end."""


@dataclass(slots=True)
class Sources:
    """The files of receivers, each looked at once."""

    uuid: str
    found: dict[tuple[Path, str], Rows | str] = field(default_factory=dict)

    def look(self, path: Path, dataset: str) -> Rows | str:
        """The rows of a file; or what is wrong with it."""
        if (path, dataset) not in self.found:
            self.found[path, dataset] = self._read(path, dataset)
        return self.found[path, dataset]

    def _read(self, path: Path, dataset: str) -> Rows | str:
        if not path.exists():
            return "it does not exist"
        try:
            with hdf5().File(path, "r") as file:
                uuid = text_of(file[file.attrs["default"]], "entry_identifier_uuid")
                if uuid != self.uuid:
                    return f"it belongs to another run ({uuid})"
                detector = detector_of(file)
                codes = np.asarray(detector["validity"][()], np.uint8)
                idx = np.asarray(detector["frame_idx"][()] if "frame_idx" in detector else (), "i8")
                parent = file[dataset].parent
                if "frame_ptr" in parent:
                    pointers = np.asarray(parent["frame_ptr"][()], np.int64)
                    stored = min(_stored(parent[name]) for name in ("index", "intensity"))
                    written = (np.diff(pointers) >= 0) & (pointers[1:] <= stored)
                    # After a crash they go back to 0 behind the last row that was flushed.
                    return Rows(codes, written, idx, np.maximum.accumulate(pointers))
                return Rows(codes, _written(file[dataset]), idx, np.empty(0, np.int64))
        except HDF5_ERRORS as error:
            return f"it cannot be read ({error})"


def _stored(dataset: Any) -> int:
    """Values up to the first that have no data behind them."""
    written = _written(dataset)
    return len(written) if written.all() else int(written.argmin())


def _written(dataset: Any) -> NDArray[np.bool_]:
    """Which rows of a dataset have data behind them."""
    written = np.zeros(len(dataset), bool)
    if dataset.chunks is None:
        return ~written

    def note(chunk: Any) -> None:
        first = int(chunk.chunk_offset[0])
        written[first : first + dataset.chunks[0]] = True

    dataset.id.chunk_iter(note)
    return written


def text_of(entry: Any, name: str) -> str:
    """A text of a group; empty if there is none."""
    return str(entry[name].asstr()[()]) if name in entry else ""


def ranges(indices: Sequence[int] | NDArray[Any]) -> str:
    """Indices for people: 3, 7-9, 12; the first few of many."""
    found: list[list[int]] = []
    for idx in indices:
        if found and idx == found[-1][1] + 1:
            found[-1][1] = int(idx)
        else:
            found.append([int(idx), int(idx)])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in found[:5]]
    more = f" and others, {len(indices)} in all" if len(found) > 5 else ""
    return ", ".join(shown) + more
