"""A tree of values and named arrays as one block of bytes, to cross processes; no pickle."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import ParamError

NEWS = "LIMA2_NEWS"
"""Format tag of such a block on the wire."""

_MAGIC = b"L2NW"
_HEAD = struct.Struct("<4sI")


def pack(tree: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Put a tree of JSON values and 1D arrays of plain types together."""
    listed = [
        {"name": name, "dtype": np.lib.format.dtype_to_descr(array.dtype), "size": len(array)}
        for name, array in arrays.items()
    ]
    head = json.dumps({"tree": tree, "arrays": listed}).encode()
    parts = [_HEAD.pack(_MAGIC, len(head)), head]
    parts += [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    return b"".join(parts)


def unpack(block: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Take apart what `pack` put together.

    Raises:
        ParamError: it is something else.
    """
    try:
        magic, length = _HEAD.unpack_from(block)
        if magic != _MAGIC:
            raise ValueError("wrong magic")
        head = json.loads(block[_HEAD.size : _HEAD.size + length])
        place = _HEAD.size + length
        arrays: dict[str, NDArray[Any]] = {}
        for entry in head["arrays"]:
            dtype = dtype_of(entry["dtype"])
            count = int(entry["size"])
            arrays[entry["name"]] = np.frombuffer(block, dtype, count, place)
            place += count * dtype.itemsize
        return head["tree"], arrays
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise ParamError(f"this is no block of news: {error}", path="news") from error


def dtype_of(description: Any) -> np.dtype[Any]:
    """The dtype that `numpy.lib.format.dtype_to_descr` described, after a way through JSON.

    Raises:
        ValueError: it is no dtype of plain values.
    """
    dtype: np.dtype[Any] = np.dtype(_descr(description))
    if dtype.hasobject:
        raise ValueError("objects do not cross processes")
    return dtype


def _descr(description: Any) -> Any:
    """A description with tuples, which JSON made lists of: fields, and shapes of fields."""
    if isinstance(description, str):
        return description
    return [(name, _descr(kind), *map(tuple, shape)) for name, kind, *shape in description]
