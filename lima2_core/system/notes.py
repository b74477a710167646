"""What clients attach to a run while it is alive, such as the temperature of the sample.

Unlike other metadata these values come at any time, each with the time at which it came.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import NotAvailableError, ParamError
from lima2_core.ids import AcqId

MOST_NOTES = 100_000
"""Of one run, all names together."""
MOST_NAMES = 200
MOST_BYTES = 2**24
"""Numbers count as eight bytes."""
MOST_NUMBERS = 1000
"""In one note."""
MOST_LETTERS = 4096
"""In one note."""

NoteValue: TypeAlias = "bool | int | float | str | list[int] | list[float]"

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.]{0,61}[A-Za-z0-9_])?")
"""What NeXus allows."""
_INT64 = 2**63


@dataclass(frozen=True, slots=True, eq=False)
class NoteSeries:
    """All notes of one name.

    Shapes: ``time_s`` (n,); ``value`` (n,), or (n, numbers) of lists.
    """

    unit: str
    """Empty without one."""
    value: NDArray[Any]
    """Of booleans, integers, floats, or texts (objects)."""
    time_s: NDArray[np.float64]
    """When each came, seconds since 1970."""


@dataclass(slots=True)
class _Series:
    kind: str
    unit: str
    values: list[Any]
    times_s: list[float]

    def frozen(self) -> NoteSeries:
        value = np.array(self.values, object if self.kind == _TEXT else None)
        return NoteSeries(self.unit, value, np.array(self.times_s, np.float64))


_TEXT = "text"


class Notes:
    """The notes of one run.

    Threads: everything from any thread.
    """

    def __init__(self, acq_id: AcqId) -> None:
        self._acq_id = acq_id
        self._series: dict[str, _Series] = {}
        self._count = 0
        self._nbytes = 0
        self._closed = ""
        self._lock = threading.Lock()

    def add(self, name: str, value: Any, unit: str = "") -> float:
        """Take a note; it counts from now on.

        Args:
            name: of the series; what NeXus allows as a name.
            value: boolean, number, text, or list of numbers; of the kind of those before it.
            unit: of all values of this name; may be left out once it was given.

        Returns:
            When it came, seconds since 1970.

        Raises:
            ParamError: something is none of that, or there are too many.
            NotAvailableError: the run takes no more notes.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ParamError(
                f"{name!r} is no name: give up to 63 letters, digits, _ and . (not at the ends)",
                path="name",
            )
        kind, nbytes = _judge(value)
        _check_text(unit, "unit")
        with self._lock:
            if self._closed:
                raise NotAvailableError(
                    f"run {self._acq_id} takes no more notes: {self._closed}", acq_id=self._acq_id
                )
            series = self._series.get(name)
            if series is not None:
                self._check_alike(name, series, kind, unit)
            self._check_room(name, nbytes)
            if series is None:
                series = self._series[name] = _Series(kind, unit, [], [])
            time_s = time.time()
            series.unit = series.unit or unit
            series.values.append(value)
            series.times_s.append(time_s)
            self._count += 1
            self._nbytes += nbytes
            return time_s

    def close(self, reason: str) -> None:
        """Take no more; who tries is told the first ``reason``."""
        with self._lock:
            self._closed = self._closed or reason

    def series(self) -> Mapping[str, NoteSeries]:
        """All notes so far, by name."""
        with self._lock:
            return {name: one.frozen() for name, one in self._series.items()}

    def last(self) -> Mapping[str, Mapping[str, Any]]:
        """The newest note of every name with its unit, its time, and how many there are."""
        with self._lock:
            return {
                name: {
                    "value": one.values[-1],
                    "unit": one.unit,
                    "time": one.times_s[-1],
                    "count": len(one.values),
                }
                for name, one in self._series.items()
            }

    def _check_alike(self, name: str, series: _Series, kind: str, unit: str) -> None:
        if series.kind != kind:
            raise ParamError(
                f"the notes {name} of this run are each a {series.kind}, not a {kind}; choose "
                "another name",
                path="value",
            )
        if unit and series.unit and unit != series.unit:
            raise ParamError(f"the notes {name} of this run are in {series.unit}", path="unit")

    def _check_room(self, name: str, nbytes: int) -> None:
        if name not in self._series and len(self._series) >= MOST_NAMES:
            raise ParamError(f"a run can have notes of {MOST_NAMES} names at most", path="name")
        if self._count >= MOST_NOTES:
            raise ParamError(f"a run can have {MOST_NOTES} notes at most", path="value")
        if self._nbytes + nbytes > MOST_BYTES:
            raise ParamError(
                f"the notes of a run can have {MOST_BYTES // 2**20} MiB in all at most",
                path="value",
            )


def _judge(value: Any) -> tuple[str, int]:
    """What kind of value it is, in words, and its bytes."""
    if isinstance(value, bool):
        return "boolean", 8
    if isinstance(value, int | float):
        _check_number(value)
        return "number", 8
    if isinstance(value, str):
        return _TEXT, _check_text(value, "value")
    if isinstance(value, list) and 0 < len(value) <= MOST_NUMBERS:
        for one in value:
            _check_number(one)
        return f"list of {len(value)} numbers", 8 * len(value)
    raise ParamError(
        f"give a boolean, a number, a text, or a flat list of 1 to {MOST_NUMBERS} numbers",
        path="value",
    )


def _check_number(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ParamError(f"the list has {value!r} in it, which is no number", path="value")
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise ParamError(f"{value} is too large; give it as a text or a float", path="value")


def _check_text(text: Any, path: str) -> int:
    """Its bytes; what HDF5 cannot write is refused."""
    if not isinstance(text, str) or "\0" in text or len(text) > MOST_LETTERS:
        raise ParamError(f"give a text without NUL, of up to {MOST_LETTERS} letters", path=path)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise ParamError("this text has letters that are none", path=path) from error


def add_from_tree(notes: Notes, tree: Mapping[str, Any]) -> float:
    """Take a note as clients send it: ``name``, ``value`` and, if there is one, ``unit``.

    Raises:
        ParamError, NotAvailableError: as `Notes.add`.
    """
    unknown = sorted(set(tree) - {"name", "value", "unit"})
    if unknown or not {"name", "value"} <= set(tree):
        raise ParamError(
            "a note has a name, a value and perhaps a unit, and nothing else",
            path=unknown[0] if unknown else "note",
        )
    return notes.add(tree["name"], tree["value"], tree.get("unit", ""))
