"""What a file of this suite tells of its rows beside the pixels; other files tell nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lima2_core.data.fields import FrameField, fields_dtype
from lima2_core.data.frame import Validity

NamesOf = Callable[[np.dtype[Any]], Mapping[str, int] | None]

_METADATA = "frame_metadata"


class RowTable:
    """What became of each row of a dataset, and what the camera told of it.

    Args:
        data: h5py dataset of the frames.
        names_of: gives the names of the values of a type, None if they have none.

    Raises:
        OSError, LookupError, ValueError, RuntimeError, TypeError: where HDF5 fails.
    """

    def __init__(self, data: Any, names_of: NamesOf) -> None:
        self._rows = int(data.shape[0])
        self._group = _detector_of(data, self._rows, names_of)
        self.fields: tuple[FrameField, ...] = ()
        """Values that come with every frame."""
        if self._group is not None:
            self.fields = self._declared()
        self._codes: Any = None
        self._records: Any = None

    def row(self, number: int) -> tuple[Validity, np.void | None]:
        """What became of a row, and what was told of it; all is read with the first one."""
        if self._group is None:
            return Validity.VALID, None
        if self._codes is None:
            self._codes = self._group["validity"][()]
            self._records = self._told() if self.fields else None
        told = None if self._records is None else self._records[number]
        return _class_of(int(self._codes[number])), told

    def _declared(self) -> tuple[FrameField, ...]:
        found: list[FrameField] = []
        for name, dataset in dict(self._group.get(_METADATA, {})).items():
            # Whoever added something else to the group did not mean the camera to tell it.
            shape, dtype = getattr(dataset, "shape", ()), getattr(dataset, "dtype", None)
            if shape[:1] != (self._rows,) or dtype is None or dtype.kind not in "uif":
                continue
            unit, doc = (str(dataset.attrs.get(key, "")) for key in ("units", "description"))
            found.append(FrameField(name, dtype.newbyteorder("="), shape[1:], unit, doc))
        return tuple(found)

    def _told(self) -> Any:
        records = np.empty(self._rows, fields_dtype(self.fields))
        for field in self.fields:
            records[field.name] = self._group[_METADATA][field.name][()]
        return records


def _class_of(code: int) -> Validity:
    try:
        return Validity(code)
    except ValueError:  # a master that was written before the end knows no better
        return Validity.DROPPED


def _detector_of(data: Any, rows: int, names_of: NamesOf) -> Any:
    """The group that has the frames and the codes of their rows; None if there is none.

    The frames are linked at other places too, so that the group is looked for where the attribute
    ``default`` leads to.
    """
    if _has_codes(data.parent, rows, names_of):
        return data.parent
    group, default = data.file, data.file.attrs.get("default")
    while default is not None and default in group and hasattr(group[default], "keys"):
        group = group[default]
        if "data" in group and group["data"] == data:
            return group if _has_codes(group, rows, names_of) else None
        default = group.attrs.get("default")
    return None


def _has_codes(group: Any, rows: int, names_of: NamesOf) -> bool:
    if "validity" not in group:
        return False
    codes = group["validity"]
    names = names_of(getattr(codes, "dtype", np.dtype(np.uint8))) or {}
    ours = {code.name: int(code) for code in Validity}
    return ours.items() <= names.items() and codes.shape == (rows,)
