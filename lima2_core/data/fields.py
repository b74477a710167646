"""Values that a camera gives with every frame, beside the pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_KINDS = "uif"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class FrameField:
    """One value, or a small array of them, that comes with every frame.

    Shapes: ``shape`` of one frame, () for a single number. Bits go as unsigned integers, many of
    them as an array of bytes.

    Raises:
        ValueError: the name is none, the type no integer or float, or the shape empty.
    """

    name: str
    """As in the files: letters, digits and underscores."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    unit: str = ""
    doc: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.name!r} is no name of a field; use letters, digits and underscores"
            )
        if self.dtype.kind not in _KINDS:
            raise ValueError(
                f"the field {self.name} is of type {self.dtype}; use an integer or a float"
            )
        if min(self.shape, default=1) < 1:
            raise ValueError(f"the field {self.name} is empty: {self.shape}")

    def to_tree(self) -> dict[str, object]:
        """Take it apart into plain values."""
        return {
            "dtype": self.dtype.str,
            "shape": list(self.shape),
            "unit": self.unit,
            "doc": self.doc,
        }

    @classmethod
    def from_tree(cls, name: str, tree: Mapping[str, Any]) -> FrameField:
        """Put it together.

        Raises:
            ValueError, LookupError, TypeError: it is none.
        """
        shape = tuple(int(size) for size in tree["shape"])
        return cls(name, np.dtype(tree["dtype"]), shape, str(tree["unit"]), str(tree["doc"]))

    @property
    def nbytes(self) -> int:
        """Bytes of one frame."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def fill(self) -> Any:
        """What stands where there is no frame: all bits set, so NaN for floats, -1 if signed."""
        return np.frombuffer(b"\xff" * self.dtype.itemsize, self.dtype)[0]


def fields_dtype(fields: Sequence[FrameField]) -> np.dtype[Any]:
    """The type of a record with one value of each field, in this order and without padding.

    Raises:
        ValueError: two have the same name.
    """
    return np.dtype([(field.name, field.dtype, field.shape) for field in fields])


def nothing_told(fields: Sequence[FrameField]) -> np.void:
    """The record that stands where there is no frame."""
    record: np.void = np.zeros(1, fields_dtype(fields))[0]
    for field in fields:
        record[field.name] = field.fill
    return record
