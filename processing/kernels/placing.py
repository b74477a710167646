"""Where the pixels of detector modules go: into a stack, or into an image with gaps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

CHIP = 256
"""Rows and columns of a chip."""
MODULE_ROWS, MODULE_COLS = 2 * CHIP, 4 * CHIP
MODULE_SHAPE = (MODULE_ROWS, MODULE_COLS)


@dataclass(frozen=True, slots=True)
class ModulePlace:
    """Flat index of the first pixel of a module, and the steps to its next row and column."""

    first: int
    row_step: int
    col_step: int


@dataclass(frozen=True, slots=True)
class Band:
    """Rows of one row of chips of one module, as they lie in the raw frame, and their places."""

    module: int
    raw: slice
    """Rows in the frame of all modules."""
    row: int
    """The first of them within the module."""
    places: NDArray[Any]
    """Shapes: a view (rows, 4, 256) of the image."""


class Placing:
    """The way of every raw pixel into the image, and the pixels of the image that none reaches.

    A raw frame holds ``rows`` rows of each module, those around its centre; modules follow one
    another.

    Shapes: images have ``shape``, (bands, rows, cols).

    Args:
        modules: one for each module of the raw frame.
        gap: pixels between chips.
        split: whether double-size pixels share with the gap pixels that they cover.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        modules: Sequence[ModulePlace],
        *,
        gap: int = 0,
        rows: int = MODULE_ROWS,
        split: bool = False,
    ) -> None:
        self.shape = shape
        self.modules = tuple(modules)
        self.gap = gap
        self.rows = rows
        self.first_row = (MODULE_ROWS - rows) // 2
        self._check_inside()
        shares = [self._shares(place) for place in self.modules] if split else []
        self.shares = (
            np.ascontiguousarray(np.concatenate(shares)) if shares else np.empty((0, 4), np.int32)
        )
        """(pixels, 4) int32: flat index of a double-size pixel and of up to three gap pixels that
        it covers, -1 where there are fewer."""
        self._empty = self.put(np.zeros(self.pixels, np.bool_), True).reshape(-1)
        self.empty_runs = _runs(self._empty)
        """(runs, 2) int32: first flat index and length of pixels that nothing reaches."""

    @property
    def pixels(self) -> int:
        """Pixels of a raw frame."""
        return len(self.modules) * self.rows * MODULE_COLS

    def runs_between_rows(self) -> NDArray[np.int32]:
        """As `empty_runs`, without the gaps between the chips of a row of pixels."""
        empty = self._empty.copy()
        rows = self.first_row + np.arange(self.rows)
        for place in self.modules:
            for last in range(CHIP - 1, MODULE_COLS - 1, CHIP):
                for n in range(1, self.gap + 1):
                    empty[self.index(place, rows, last) + n * place.col_step] = False
        return _runs(empty)

    def bands(self, image: NDArray[Any], step: int = CHIP) -> Iterator[Band]:
        """The image in pieces of at most ``step`` raw rows.

        Shapes: ``image`` contiguous, of ``shape``.
        """
        flat = image.reshape(-1)
        for number, place in enumerate(self.modules):
            start = self.first_row
            end = start + self.rows
            for chip_row in range(2):
                low, high = max(start, chip_row * CHIP), min(end, (chip_row + 1) * CHIP)
                for row in range(low, high, step):
                    count = min(step, high - row)
                    raw = number * self.rows + row - start
                    yield Band(
                        number,
                        slice(raw, raw + count),
                        row,
                        self._view(flat, place, row, count),
                    )

    def put(self, values: NDArray[Any], empty: Any) -> NDArray[Any]:
        """An image of ``values``, with ``empty`` where no raw pixel goes.

        Shapes: ``values`` as many as a raw frame has -> ``shape``.
        """
        image = np.full(self.shape, empty, values.dtype)
        planes = values.reshape(-1, 4, CHIP)
        for band in self.bands(image):
            band.places[...] = planes[band.raw]
        for target in range(1, 4):
            used = self.shares[:, target] >= 0
            image.reshape(-1)[self.shares[used, target]] = image.reshape(-1)[self.shares[used, 0]]
        return image

    def index(self, place: ModulePlace, row: Any, col: Any) -> Any:
        """Flat index in the image of pixels of a module."""
        down = row + self.gap * (row // CHIP)
        along = col + self.gap * (col // CHIP)
        return place.first + down * place.row_step + along * place.col_step

    def _check_inside(self) -> None:
        """See that no module leaves the image: nothing else would before memory is overwritten."""
        rows = np.array([self.first_row, self.first_row + self.rows - 1])[:, None]
        cols = np.array([0, MODULE_COLS - 1])
        for number, place in enumerate(self.modules):
            corners = self.index(place, rows, cols)
            if corners.min() < 0 or corners.max() >= math.prod(self.shape):
                raise ValueError(f"module {number} leaves the image of {self.shape}")

    def _view(self, flat: NDArray[Any], place: ModulePlace, row: int, count: int) -> NDArray[Any]:
        """The places of some rows, within one row of chips."""
        size = flat.itemsize
        first = self.index(place, row, 0)
        strides = (place.row_step, (CHIP + self.gap) * place.col_step, place.col_step)
        return as_strided(flat[first:], (count, 4, CHIP), [step * size for step in strides])

    def _shares(self, place: ModulePlace) -> NDArray[np.int32]:
        """Double-size pixels of a module and the gap pixels they cover.

        Each pixel of the gap belongs to the chip that it is nearer to.
        """
        rows, cols = (axis.reshape(-1) for axis in np.indices((self.rows, MODULE_COLS)))
        rows = rows + self.first_row
        down, along = _outwards(rows, MODULE_ROWS), _outwards(cols, MODULE_COLS)
        chosen = (down != 0) | (along != 0)
        down, along = down[chosen], along[chosen]
        own = self.index(place, rows[chosen], cols[chosen])
        steps = [along * place.col_step, down * place.row_step]
        steps.append(np.where((down != 0) & (along != 0), steps[0] + steps[1], 0))
        targets = [np.where(step != 0, own + step, -1) for step in steps]
        # Used from the front: own place, then those that exist.
        table = np.stack([own, *targets], axis=1).astype(np.int32)
        only_down = (table[:, 1] < 0) & (table[:, 2] >= 0)
        table[only_down, 1], table[only_down, 2] = table[only_down, 2], -1
        return table


def double_size(rows: int = MODULE_ROWS) -> NDArray[np.bool_]:
    """Which pixels of a module are of double size: those at chip borders within the module.

    Shapes: (rows, 1024), the rows around the centre.
    """
    first = (MODULE_ROWS - rows) // 2
    down = _outwards(np.arange(first, first + rows), MODULE_ROWS) != 0
    along = _outwards(np.arange(MODULE_COLS), MODULE_COLS) != 0
    return np.asarray(down[:, None] | along[None, :], np.bool_)


def stacked(shape: tuple[int, int, int], rows: int = MODULE_ROWS) -> Placing:
    """Modules stay one below the other, as in the raw frame."""
    count = math.prod(shape) // (rows * MODULE_COLS)
    first_row = (MODULE_ROWS - rows) // 2
    places = [
        ModulePlace((n * rows - first_row) * MODULE_COLS, MODULE_COLS, 1) for n in range(count)
    ]
    return Placing(shape, places, rows=rows)


def _runs(empty: NDArray[np.bool_]) -> NDArray[np.int32]:
    """First index and length of the runs of True. Shapes: (pixels,) -> (runs, 2)."""
    edges = np.flatnonzero(np.diff(empty, prepend=False, append=False)).astype(np.int32)
    return np.ascontiguousarray(np.stack([edges[::2], edges[1::2] - edges[::2]], axis=1))


def _outwards(position: NDArray[Any], size: int) -> NDArray[Any]:
    """-1 or +1 where a pixel borders on a gap before or behind it, else 0."""
    last, first = position % CHIP == CHIP - 1, position % CHIP == 0
    behind, before = last & (position != size - 1), first & (position != 0)
    return np.asarray(behind.astype(int) - before.astype(int))
