"""Frames and records to bytes, as the known clients decode them (contract 03, section 1).

The header is that of Lima's data arrays: 64 bytes, little endian. Version 3 puts the frame index
into the last eight bytes and is understood by all of them.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA_ARRAY = "DATA_ARRAY"
STRUCTURED_ARRAY = "STRUCTURED_ARRAY"

_HEADER = struct.Struct("<IHHIIHHHHHHHHIIIIIIQ")
_MAGIC = 0x44544159
_VERSION = 3
_CATEGORY_STACK, _CATEGORY_SPECTRUM, _CATEGORY_IMAGE = 0, 1, 2
_TYPE_CODES: dict[str, int] = {
    "uint8": 0,
    "uint16": 1,
    "uint32": 2,
    "uint64": 3,
    "int8": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "float32": 8,
    "float64": 9,
}
_MOST = 0xFFFF


def encode_image(data: NDArray[Any], idx: int) -> bytes:
    """A frame with its global index.

    Shapes: ``data`` (bands, rows, cols), at most 65535 each.

    Raises:
        ValueError: another shape, or a pixel type that has no code.
    """
    if data.ndim != 3 or max(data.shape) > _MOST:
        raise ValueError(f"frames of shape {data.shape} have no form on the wire")
    bands, rows, cols = data.shape
    return _array(data, _CATEGORY_IMAGE, (cols, rows, bands), (1, cols, cols * rows), idx)


def encode_image2d(data: NDArray[Any], idx: int) -> bytes:
    """One band of a frame with its global index, as readers of Lima's own images want it.

    Shapes: ``data`` (rows, cols), at most 65535 each.

    Raises:
        ValueError: another shape, or a pixel type that has no code.
    """
    if data.ndim != 2 or max(data.shape) > _MOST:
        raise ValueError(f"images of shape {data.shape} have no form on the wire")
    rows, cols = data.shape
    return _array(data, _CATEGORY_IMAGE, (cols, rows), (1, cols), idx)


def decode_image(block: bytes) -> tuple[int, NDArray[Any]]:
    """Index and pixels of what `encode_image` put together.

    Shapes: (bands, rows, cols), a view of ``block``.

    Raises:
        ValueError: it is something else.
    """
    try:
        magic, version, size, category, code, endian, dims, cols, rows, bands, *rest = (
            _HEADER.unpack_from(block)
        )
    except struct.error as error:
        raise ValueError(f"{len(block)} bytes are no frame") from error
    known = (magic, category, endian, dims) == (_MAGIC, _CATEGORY_IMAGE, 0, 3)
    if not known or version < _VERSION or code not in _TYPE_CODES.values():
        raise ValueError("this is no frame with three axes and an index")
    dtype = next(np.dtype(name) for name, value in _TYPE_CODES.items() if value == code)
    data = np.frombuffer(block, dtype.newbyteorder("<"), bands * rows * cols, size)
    return int(rest[-1]), data.reshape(bands, rows, cols)


def encode_vector(data: NDArray[Any], idx: int) -> bytes:
    """A curve with its global index.

    Shapes: ``data`` (length,), at most 65535.
    """
    if data.ndim != 1 or data.size > _MOST:
        raise ValueError(f"curves of shape {data.shape} have no form on the wire")
    return _array(data, _CATEGORY_SPECTRUM, (data.size,), (1,), idx)


def encode_records(records: NDArray[Any]) -> bytes:
    """Records, packed; readers know their layout by where they come from.

    Shapes: (n,) structured; an empty array gives the header alone.
    """
    shown = min(len(records), _MOST)  # the field is too short for more; readers ignore it
    header = _header(_CATEGORY_STACK, 0, (shown,), (1,), 0)
    return header + records.tobytes()


def _array(
    data: NDArray[Any], category: int, dims: tuple[int, ...], steps: tuple[int, ...], idx: int
) -> bytes:
    code = _TYPE_CODES.get(data.dtype.name)
    if code is None:
        raise ValueError(f"pixels of type {data.dtype} have no code on the wire")
    little = np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("<"))
    return b"".join((_header(category, code, dims, steps, idx), little.data))


def _header(
    category: int, code: int, dims: tuple[int, ...], steps: tuple[int, ...], idx: int
) -> bytes:
    padded_dims = (*dims, *(0,) * (6 - len(dims)))
    padded_steps = (*steps, *(0,) * (6 - len(steps)))
    return _HEADER.pack(
        _MAGIC,
        _VERSION,
        _HEADER.size,
        category,
        code,
        0,
        len(dims),
        *padded_dims,
        *padded_steps,
        idx,
    )
