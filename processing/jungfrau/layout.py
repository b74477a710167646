"""Where the modules of a detector are, in the image and in the laboratory.

A layout file is JSON (docs: reference/jungfrau_files.md)::

    {
      "format": "lima2-jungfrau-layout", "version": 1, "chip_gap": 2, "pixel_mm": 0.075,
      "modules": [
        {"row": 0, "col": 0, "rotation": 0},
        {"row": 550, "col": 0, "rotation": 180,
         "lab": {"origin_mm": [-77.2, 1.4, 200], "row_axis": [0, -1, 0], "col_axis": [-1, 0, 0]}}
      ]
    }
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lima2_core.data.geometry import Affine, Roi
from lima2_core.errors import ParamError
from lima2_core.schema import ParamsModel, quantity
from processing.kernels.placing import CHIP, MODULE_COLS, MODULE_ROWS, ModulePlace, Placing

Vector = tuple[float, float, float]

_ROW_BY_ROW = "3 x 3 matrix, its rows one after the other, for columns (row, col, 1): "
_TO_MODULE = (
    f"{_ROW_BY_ROW}from pixels of the image to (row, col, 1) in the module, in pixels, chip gaps "
    "counted"
)
_TO_LAB = (
    f"{_ROW_BY_ROW}from pixels of the module, chip gaps counted, to (x, y, z) in the laboratory, "
    "in mm"
)


class LabParams(ParamsModel):
    """Where a module is in the laboratory; the axes are unit vectors."""

    origin_mm: Vector = (0.0, 0.0, 0.0)
    """Centre of its first pixel: row 0, column 0."""
    row_axis: Vector = (0.0, 1.0, 0.0)
    """Direction of growing rows."""
    col_axis: Vector = (1.0, 0.0, 0.0)
    """Direction of growing columns."""

    @model_validator(mode="after")
    def _axes_are_unit_vectors(self) -> Self:
        for name, axis in (("row_axis", self.row_axis), ("col_axis", self.col_axis)):
            length = float(np.linalg.norm(axis))
            if abs(length - 1) > 1e-3:
                raise ValueError(f"{name} has the length {length:g}; give a vector of length 1")
        return self


class ModuleParams(ParamsModel):
    """Place of a module in the image."""

    row: int = quantity("pixel", default=0, ge=0)
    col: int = quantity("pixel", default=0, ge=0)
    """First row and column that it occupies, once turned."""
    rotation: Literal[0, 90, 180, 270] = 0
    """Degrees counter-clockwise, as in `numpy.rot90`."""
    lab: LabParams | None = None
    """None: as in the image, at z = 0, x along the columns and y along the rows."""


class LayoutParams(ParamsModel):
    """The content of a layout file."""

    format: Literal["lima2-jungfrau-layout"] = "lima2-jungfrau-layout"
    version: Literal[1] = 1
    chip_gap: int = quantity("pixel", default=2, ge=0, le=64)
    """Between the chips of a module."""
    pixel_mm: float = quantity("mm", default=0.075, gt=0)
    rows: int = quantity("pixel", default=0, ge=0)
    cols: int = quantity("pixel", default=0, ge=0)
    """Size of the image; 0: just as large as needed."""
    modules: tuple[ModuleParams, ...] = Field(default=(), min_length=1)


class Layout:
    """Places of modules, in the order in which they are in the raw frames.

    Raises:
        ParamError: modules overlap, or leave an image of given size; the path is within the file.
    """

    def __init__(self, params: LayoutParams) -> None:
        self.params = params
        self.shape = self._check()
        """(rows, cols) of the image."""

    def __len__(self) -> int:
        return len(self.params.modules)

    @property
    def module_shape(self) -> tuple[int, int]:
        """(rows, cols) of a module with its chip gaps, not turned."""
        gap = self.params.chip_gap
        return MODULE_ROWS + gap, MODULE_COLS + 3 * gap

    def to_module(self, module: int) -> Affine:
        """Maps positions in the image to positions in a module with its chip gaps."""
        place = self.params.modules[module]
        turned = Affine.rotation(place.rotation // 90, *self.module_shape)
        return turned.then(Affine.crop(-place.row, -place.col))

    def to_lab(self, module: int) -> NDArray[np.float64]:
        """Maps positions in a module with its chip gaps to the laboratory, in mm.

        Shapes: (3, 3) float64: ``(x, y, z) = matrix @ (row, col, 1)``.
        """
        pitch = self.params.pixel_mm
        lab = self.params.modules[module].lab
        if lab is not None:
            steps = np.stack([lab.row_axis, lab.col_axis], axis=1) * pitch
            return np.concatenate([steps, np.array(lab.origin_mm)[:, None]], axis=1)
        row_col = self.to_module(module).inverse().matrix
        return np.stack([row_col[1] * pitch, row_col[0] * pitch, np.zeros(3)])

    def told(self) -> dict[str, dict[str, object]]:
        """All modules by number, for files: both matrices, and how they lie there."""
        return {
            str(number): {
                "image_to_module": self.to_module(number).matrix.reshape(-1).tolist(),
                "image_to_module@description": _TO_MODULE,
                "module_to_laboratory_mm": self.to_lab(number).reshape(-1).tolist(),
                "module_to_laboratory_mm@description": _TO_LAB,
            }
            for number in range(len(self))
        }

    def centres(self, module: int) -> NDArray[np.float64]:
        """Centres of the pixels in the laboratory, in mm.

        Double-size pixels reach to the middle of the gap, so theirs lie a quarter of it farther.

        Shapes: (512, 1024, 3).
        """
        rows, cols = self._positions(MODULE_ROWS), self._positions(MODULE_COLS)
        matrix = self.to_lab(module)
        return np.asarray(
            rows[:, None, None] * matrix[:, 0] + cols[None, :, None] * matrix[:, 1] + matrix[:, 2]
        )

    def box(self, modules: Sequence[int]) -> Roi:
        """The smallest rectangle of the image around some modules."""
        boxes = [self._boxes()[module] for module in modules]
        row, col = min(box.row for box in boxes), min(box.col for box in boxes)
        end_row = max(box.row + box.rows for box in boxes)
        end_col = max(box.col + box.cols for box in boxes)
        return Roi(row, col, end_row - row, end_col - col)

    def placing(
        self,
        rows: int = MODULE_ROWS,
        *,
        split: bool = False,
        modules: Sequence[int] | None = None,
    ) -> Placing:
        """The way of raw pixels into the image, or of some modules into the `box` around them.

        ``rows`` and ``split`` are as for `Placing`.
        """
        area = Roi(0, 0, *self.shape) if modules is None else self.box(modules)
        places = []
        for number in range(len(self)) if modules is None else modules:
            matrix = self.to_module(number).inverse().matrix
            first, row_step, col_step = (
                round(float(matrix[0, axis])) * area.cols + round(float(matrix[1, axis]))
                for axis in (2, 0, 1)
            )
            corner = area.row * area.cols + area.col
            places.append(ModulePlace(first - corner, row_step, col_step))
        shape = (1, area.rows, area.cols)
        return Placing(shape, places, gap=self.params.chip_gap, rows=rows, split=split)

    def parts(self, count: int, where: str = "") -> list[Roi]:
        """The rectangles of ``count`` receivers, each with an equal share of the modules in order.

        Raises:
            ParamError: two overlap; the message names the modules, the path is ``where``.
        """
        each = len(self) // count
        shares = [range(part * each, (part + 1) * each) for part in range(count)]
        found = [self.box(share) for share in shares]
        for n, other in itertools.combinations(range(count), 2):
            if _overlap(found[n], found[other]):
                raise ParamError(
                    f"each of {count} receivers makes the rectangle around its modules, and those "
                    f"of modules {_named(shares[n])} (receiver {n}) and {_named(shares[other])} "
                    f"(receiver {other}) overlap; put the modules into an order in which each "
                    "receiver has neighbours, or deal out whole frames (round_robin)",
                    path=where,
                )
        return found

    def _positions(self, size: int) -> NDArray[np.float64]:
        """Positions along one axis, with gaps."""
        gap, pixel = self.params.chip_gap, np.arange(size)
        last = (pixel % CHIP == CHIP - 1) & (pixel != size - 1)
        first = (pixel % CHIP == 0) & (pixel != 0)
        return np.asarray(pixel + gap * (pixel // CHIP) + (last * 0.25 - first * 0.25) * gap)

    def _check(self) -> tuple[int, int]:
        params, boxes = self.params, self._boxes()
        whole = self.box(range(len(self)))
        size = (params.rows or whole.row + whole.rows, params.cols or whole.col + whole.cols)
        for n, box in enumerate(boxes):
            if not box.fits(*size):
                raise ParamError(
                    f"it ends at row {box.row + box.rows}, column {box.col + box.cols}, outside "
                    f"the image of {size[0]} x {size[1]}; enlarge rows and cols or leave them out",
                    path=f"modules.{n}",
                )
            for other, before in enumerate(boxes[:n]):
                if _overlap(box, before):
                    raise ParamError(f"it overlaps with module {other}", path=f"modules.{n}")
        return size

    def _boxes(self) -> list[Roi]:
        """What each module occupies of the image, its chip gaps included."""
        boxes = []
        for module in self.params.modules:
            rows, cols = self.module_shape[:: -1 if module.rotation % 180 else 1]
            boxes.append(Roi(module.row, module.col, rows, cols))
        return boxes


def _overlap(one: Roi, other: Roi) -> bool:
    return (
        one.row < other.row + other.rows
        and other.row < one.row + one.rows
        and one.col < other.col + other.cols
        and other.col < one.col + one.cols
    )


def _named(modules: range) -> str:
    if len(modules) == 1:
        return str(modules.start)
    return f"{modules.start} to {modules.stop - 1}"


def load_layout(name: str, where: str) -> Layout:
    """Read a layout file.

    Raises:
        ParamError: there is none, or something is wrong in it; the path is ``where``.
    """
    file = Path(name)
    if not file.is_absolute():
        raise ParamError(
            f"{name!r} must be an absolute path, as servers have no folder", path=where
        )
    try:
        return Layout(LayoutParams.from_json(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ParamError(f"the layout {name} cannot be read: {error}", path=where) from error
    except ParamError as error:
        raise ParamError(f"in the layout {name}: {error}", path=where) from error
