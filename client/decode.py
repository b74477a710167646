"""Bytes of the devices to numpy.

All functions take what a Tango command of type DevEncoded gives: the name of the format and the
bytes. Arrays are views of these bytes: nothing is copied, and they cannot be written to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from client import wire
from client.errors import DecodeError

Encoded: TypeAlias = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A frame or a vector.

    Shapes: ``data`` is (bands, rows, cols), or (length,).
    """

    idx: int
    """Number of the frame in the acquisition."""
    data: NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Header:
    size: int
    category: int
    type_code: int
    endianness: int
    dims: tuple[int, ...]
    idx: int


def decode_frame(encoded: Encoded) -> Decoded:
    """A frame, as getFrame and getInputFrame give it.

    Raises:
        DecodeError: it is no frame, or not a whole one.
    """
    return _array(encoded, "frame", wire.CATEGORY_IMAGE, 3)


def decode_vector(encoded: Encoded) -> Decoded:
    """A curve.

    Raises:
        DecodeError: it is no curve, or not a whole one.
    """
    return _array(encoded, "vector", wire.CATEGORY_SPECTRUM, 1)


def decode_records(encoded: Encoded, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Records, as the pop commands give them; none if there are no new ones.

    Shapes: (records,).

    Args:
        encoded: what the command gave.
        dtype: their layout, which the message does not tell: one of `client.wire`.

    Raises:
        DecodeError: these are no records, or no whole ones.
    """
    content = _content(encoded, wire.STRUCTURED_ARRAY)
    header = _header(content)
    nbytes = len(content) - header.size
    if nbytes % dtype.itemsize:
        raise DecodeError(
            f"{nbytes} bytes are no whole number of records of {dtype.itemsize} bytes "
            f"({', '.join(dtype.names or ())})"
        )
    return np.frombuffer(content, dtype, offset=header.size)


def _array(encoded: Encoded, what: str, category: int, rank: int) -> Decoded:
    content = _content(encoded, wire.DATA_ARRAY)
    header = _header(content)
    if header.category != category or len(header.dims) != rank:
        raise DecodeError(
            f"This is no {what}: category {header.category} with {len(header.dims)} dimensions, "
            f"expected category {category} with {rank}"
        )
    if header.type_code >= len(wire.PIXEL_TYPES):
        raise DecodeError(f"The pixels are of a type that is not known, code {header.type_code}")
    if header.endianness != wire.LITTLE_ENDIAN:
        raise DecodeError("The pixels are big endian, which no known server sends")
    dtype = wire.PIXEL_TYPES[header.type_code].newbyteorder("<")
    shape = header.dims[::-1]  # the fastest comes first there
    expected = math.prod(shape) * dtype.itemsize
    if len(content) - header.size != expected:
        raise DecodeError(
            f"{len(content) - header.size} bytes follow the header, a {what} of shape {shape} and "
            f"type {dtype.name} has {expected}"
        )
    return Decoded(header.idx, np.frombuffer(content, dtype, offset=header.size).reshape(shape))


def _content(encoded: Encoded, expected: str) -> bytes:
    kind, content = encoded
    if kind != expected:
        raise DecodeError(f"The format is '{kind}', '{expected}' was expected")
    return content


def _header(content: bytes) -> _Header:
    if len(content) < wire.HEADER.size:
        raise DecodeError(
            f"There are {len(content)} bytes, the header alone has {wire.HEADER.size}"
        )
    magic, version, size, category, code, endianness, rank, *rest = wire.HEADER.unpack_from(content)
    if magic != wire.MAGIC:
        raise DecodeError(f"It begins with {magic:#010x} instead of {wire.MAGIC:#010x}")
    if version < wire.OLDEST_VERSION:
        raise DecodeError(
            f"Its version is {version}; upgrade the server to one that sends "
            f"{wire.OLDEST_VERSION} or newer"
        )
    if not wire.HEADER.size <= size <= len(content):
        raise DecodeError(f"The header says that it has {size} bytes of {len(content)}")
    if rank > 6:
        raise DecodeError(f"The header says that there are {rank} dimensions; 6 is the most")
    return _Header(size, category, code, endianness, tuple(rest[:rank]), rest[-1])
