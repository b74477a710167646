"""Blocks of a tree of values and named arrays, as devices of runs send them."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client import wire
from client.errors import DecodeError


def decode_news(encoded: tuple[str, bytes]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Tree and arrays of a block; the arrays are views of its bytes.

    Raises:
        DecodeError: it is something else, or not whole.
    """
    kind, block = encoded
    if kind != wire.NEWS:
        raise DecodeError(f"The format is '{kind}', '{wire.NEWS}' was expected")
    try:
        magic, length = wire.NEWS_HEAD.unpack_from(block)
        if magic != wire.NEWS_MAGIC:
            raise ValueError(f"it begins with {magic!r}")
        head = json.loads(block[wire.NEWS_HEAD.size : wire.NEWS_HEAD.size + length])
        place = wire.NEWS_HEAD.size + length
        arrays: dict[str, NDArray[Any]] = {}
        for entry in head["arrays"]:
            dtype, count = dtype_of(entry["dtype"]), int(entry["size"])
            arrays[entry["name"]] = np.frombuffer(block, dtype, count, place)
            place += count * dtype.itemsize
        return dict(head["tree"]), arrays
    except (ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise DecodeError(f"This is no block of values and arrays: {error}") from error


def dtype_of(description: Any) -> np.dtype[Any]:
    """The dtype that a device describes.

    Raises:
        ValueError, TypeError: it describes none of plain values.
    """
    dtype: np.dtype[Any] = np.dtype(_fields(description))
    if dtype.hasobject:
        raise ValueError("objects do not cross processes")
    return dtype


def _fields(description: Any) -> Any:
    """A description with tuples, which JSON made lists of."""
    if isinstance(description, str):
        return description
    return [(name, _fields(kind), *map(tuple, shape)) for name, kind, *shape in description]
