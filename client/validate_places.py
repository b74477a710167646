"""Where the frames of a master are: what its tables say, and what its mappings do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from client.validate_sources import Sources

_RECEIVER_FILE = re.compile(r"(.+)_(\d+)_(\d{5,})\.h5")
_SEGMENT_FILE = re.compile(r"(.+)_master_\d{5,}\.h5")

Axes = tuple[tuple[int, int, int], ...]
"""Start, size and step of what is selected on each axis but the first."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Where consecutive frames are, as a file of a master says.

    Shapes: ``receiver`` (frames,); ``row`` (frames, parts), -1 where nothing can be read.
    """

    first: int
    folder: Path
    """Of the file, from which mappings find others."""
    prefix: str
    """Of the files of receivers; empty if the file does not tell it by its name."""
    receiver: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, detector: Any, first: int, path: Path, segment_name: str) -> Self:
        """The table in the detector group of the file ``path``.

        Args:
            detector: group with ``receiver`` and ``row``.
            first: index of its first frame.
            path: of the file.
            segment_name: name of any segment of the master.
        """
        receiver = np.asarray(detector["receiver"][()], np.int64)
        row = np.asarray(detector["row"][()], np.int64).reshape(len(receiver), -1)
        named = _SEGMENT_FILE.fullmatch(segment_name)
        return cls(first, path.parent, named[1] if named else "", receiver, row)

    @property
    def parts(self) -> int:
        """Receivers that have a part of every frame, or 1."""
        return int(self.row.shape[1])

    def owners(self) -> NDArray[np.int64]:
        """The receiver of every place in ``row``.

        Shapes: -> (frames, parts).
        """
        if self.parts == 1:
            return self.receiver[:, None]
        return np.broadcast_to(np.arange(self.parts), self.row.shape)

    def place(self, led: Led) -> NDArray[np.int64]:
        """Which of the parts receivers have.

        Shapes: -> (mappings,).
        """
        return led.receiver if self.parts > 1 else np.zeros_like(led.receiver)

    def file(self, receiver: int, number: int) -> Path:
        """File ``number`` of a receiver."""
        return self.folder / f"{self.prefix}_{receiver}_{number:05d}.h5"

    def named(self, name: str) -> tuple[int, int]:
        """Receiver and number of a file; -1 and -1 if it is none of this source."""
        told = _RECEIVER_FILE.fullmatch(name)
        if told is None or (self.prefix and told[1] != self.prefix):
            return -1, -1
        return int(told[2]), int(told[3])

    def elsewhere(self, led: Led, sources: Sources, dataset: str) -> NDArray[np.bool_]:
        """Which mappings lead to another row than the table says.

        Shapes: -> (mappings,).
        """
        at = self.place(led)
        known = (led.receiver >= 0) & (at < self.parts)
        at = np.where(known, at, 0)
        row = self.row[led.frame, at]
        wrong: NDArray[np.bool_] = (
            ~known | (self.owners()[led.frame, at] != led.receiver) | (row < 0)
        )
        for receiver in np.unique(led.receiver[~wrong]).tolist():
            here = np.flatnonzero(~wrong & (led.receiver == receiver))
            number = led.number[here]
            size = self.rows_per_file(receiver, number, sources, dataset)
            told = number * size + led.row[here]
            wrong[here] = (told != row[here]) & ((size > 0) | (number == 0))
        return wrong

    def by_file(
        self, sources: Sources, dataset: str
    ) -> Iterator[tuple[Path, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
        """The frames by the files that they are in; without those whose files are not known.

        Returns:
            The file, and of its frames: where they are in ``row`` (two arrays), their row in it.
        """
        owners = self.owners()
        for receiver in np.unique(owners[self.row >= 0]).tolist():
            frame, part = np.nonzero((self.row >= 0) & (owners == receiver))
            size = self.rows_per_file(receiver, np.empty(0, np.int64), sources, dataset)
            if size:
                numbers, rows = np.divmod(self.row[frame, part], size)
                for number in np.unique(numbers).tolist():
                    here = numbers == number
                    yield self.file(receiver, number), frame[here], part[here], rows[here]

    def rows_per_file(
        self, receiver: int, numbers: NDArray[Any], sources: Sources, dataset: str
    ) -> int:
        """Rows of each file of a receiver but the last; 0 if none of them can be read."""
        for number in (0, *np.unique(numbers)[:-1].tolist()):
            found = sources.look(self.file(receiver, number), dataset)
            if not isinstance(found, str):
                # Any number will do where there is one file only.
                return len(found.codes)
        return 0


@dataclass(frozen=True, slots=True, eq=False)
class Led:
    """Which row of which file is shown of which frame.

    Shapes: all (n,); ``receiver`` and ``number`` are -1 of files that are none of a receiver.
    """

    frame: NDArray[np.int64]
    receiver: NDArray[np.int64]
    number: NDArray[np.int64]
    row: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Mappings:
    """What a virtual dataset consists of: an entry for each frame, or part of one.

    Shapes: ``file``, ``frame``, ``row``, ``place`` (n,); ``file`` and ``place`` count in
    ``files`` and ``places``.
    """

    files: Sequence[tuple[str, str]]
    """Names of files and of the datasets in them."""
    places: Sequence[tuple[Axes, Axes]]
    """What is selected of a frame in the master, and of a row in the file."""
    file: NDArray[np.int64]
    frame: NDArray[np.int64]
    row: NDArray[np.int64]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Any) -> Self:
        """Those of a dataset.

        Raises:
            RuntimeError, ValueError: it has mappings that show no frames.
        """
        files: dict[tuple[str, str], int] = {}
        places: dict[tuple[Axes, Axes], int] = {}
        found: list[tuple[int, int, int, int]] = []
        # Without a mapping it is not virtual.
        for one in dataset.virtual_sources() if dataset.is_virtual else ():
            target = list(zip(*one.vspace.get_regular_hyperslab(), strict=True))
            source = list(zip(*one.src_space.get_regular_hyperslab(), strict=True))
            file = files.setdefault(source_names(one), len(files))
            place = places.setdefault((_axes(target[1:]), _axes(source[1:])), len(places))
            pairs = zip(_selected(*target[0]), _selected(*source[0]), strict=True)
            found.extend((file, frame, row, place) for frame, row in pairs)
        columns = np.array(found, np.int64).reshape(-1, 4).T
        return cls(list(files), list(places), *columns)

    def led(self, table: Table) -> Led:
        """The same, told by receivers."""
        named = np.array([table.named(Path(name).name) for name, _ in self.files], np.int64)
        receiver, number = named.reshape(-1, 2)[self.file].T
        return Led(self.frame, receiver, number, self.row)


def source_names(mapping: Any) -> tuple[str, str]:
    """File and dataset that a mapping of a virtual dataset leads to."""
    # In names of mappings % begins a pattern, and %% is the sign itself.
    file, dataset = (one.replace("%%", "%") for one in (mapping.file_name, mapping.dset_name))
    return file, dataset.strip("/")


def _selected(start: int, step: int, count: int, block: int) -> range | list[int]:
    """The indices of a selection on one axis."""
    if block == 1:
        return range(start, start + step * count, step)
    return [start + step * n + k for n in range(count) for k in range(block)]


def _axes(selected: Sequence[tuple[int, int, int, int]]) -> Axes:
    """What is selected, told in one way: HDF5 has several for the same."""
    return tuple(
        (start, count * block, 1 if count == 1 or step == block else step)
        for start, step, count, block in selected
    )
