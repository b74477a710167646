"""What the client relies on in the messages of the devices.

The header of both formats is that of Lima's data arrays: 64 bytes, little endian, no padding.
"""

from __future__ import annotations

import struct

import numpy as np

DATA_ARRAY = "DATA_ARRAY"
"""Format of frames and vectors."""
STRUCTURED_ARRAY = "STRUCTURED_ARRAY"
"""Format of records."""

HEADER = struct.Struct("<IHHIIHHHHHHHHIIIIIIQ")
"""Magic, version, size of the header, category, type code, endianness, number of dimensions, six
dimensions, six strides (not used), index of the frame."""
MAGIC = 0x44544159
OLDEST_VERSION = 3
"""The first that tells the index of the frame."""
LITTLE_ENDIAN = 0

CATEGORY_SPECTRUM, CATEGORY_IMAGE = 1, 2
PIXEL_TYPES = tuple(
    np.dtype(name)
    for name in (
        *("uint8", "uint16", "uint32", "uint64"),
        *("int8", "int16", "int32", "int64"),
        *("float32", "float64"),
    )
)
"""The type of the pixels, at the place of its code."""

FRAME_IDX = np.dtype([("recv_idx", "<i4"), ("frame_idx", "<i4")])
"""Record of popFrameIdx."""
STATISTICS = np.dtype(
    [
        ("frame_idx", "<i4"),
        ("recv_idx", "<i4"),
        ("min", "<f4"),
        ("max", "<f4"),
        ("avg", "<f4"),
        ("std", "<f4"),
        ("sum", "<f8"),
    ]
)
"""Record of popRoiStatistics, and of each element in popRoiProfiles."""
