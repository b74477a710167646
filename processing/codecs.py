"""From the pixels of a frame to the bytes of an HDF5 chunk, outside of HDF5.

HDF5 runs its filters one after the other under one lock. Here frames are compressed by the
worker threads, each on its own; the file then takes the chunk as it is (direct chunk write), and
any HDF5 with the usual plugins reads it.
"""

from __future__ import annotations

import ctypes
import importlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Validity

Compression = Literal["none", "zip", "bshuf_lz4", "bshuf_zstd"]

_BITSHUFFLE = 32008
"""Number under which the filter is registered with the HDF Group."""
_BITSHUFFLE_LZ4 = 2
_BITSHUFFLE_ZSTD = 3
_BLOCK_BYTES = 8192
"""Unit of bitshuffle's work, its own default: two of them stay in the first cache."""
_HDF5_MANDATORY = 0
"""A file whose chunks cannot be packed must not be made at all."""

ZIP_LEVEL = 1
"""Real photons take twice the time at level 4 for 18 % less space, raw readout two thirds more
for 1 %. Who wants less space takes bshuf_zstd, which is smaller and faster than any level."""
ZSTD_LEVEL = 1
"""Level 3 takes up to 12 % more time, and saves at most 1 % of what bitshuffle leaves."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedChunk:
    """The bytes of one frame as they stand in the file, and what the file says about them."""

    data: bytes | NDArray[Any]
    """C-contiguous."""
    validity: Validity = Validity.VALID
    lease: object = None
    """Keeps the memory of ``data``; None if ``data`` owns it."""
    timestamp_s: float = 0.0
    """Start of the exposure, seconds since 1970; 0 if unknown."""
    fields: np.void | None = None
    """What the camera tells of the frame; None if it tells nothing."""

    @property
    def nbytes(self) -> int:
        return len(self.data) if isinstance(self.data, bytes) else self.data.nbytes


class Codec(ABC):
    """One way to pack frames.

    Threads: everything from any thread; `encode` uses one core and lets other threads run.
    """

    name: Compression

    @abstractmethod
    def encode(self, pixels: NDArray[Any]) -> bytes | NDArray[Any]:
        """Give the chunk; it may be ``pixels`` itself."""

    def creation_properties(self, chunk_shape: tuple[int, ...]) -> Any:
        """Give the h5py property list for a dataset of such chunks.

        Raises:
            ImportError: HDF5 or its filters are not installed.
        """
        from h5py import h5p

        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_chunk(chunk_shape)
        # As h5py does: no times in the object header, so equal files have equal bytes.
        properties.set_obj_track_times(False)
        self._set_filter(properties)
        return properties

    def _set_filter(self, properties: Any) -> None:
        """Name the filter with which HDF5 unpacks the chunks."""


class NoCodec(Codec):
    """Pixels as they are."""

    name: Compression = "none"

    def encode(self, pixels: NDArray[Any]) -> bytes | NDArray[Any]:
        return np.ascontiguousarray(pixels)


class ZipCodec(Codec):
    """Deflate, which every HDF5 can read without a plugin. Six times slower than bitshuffle."""

    name: Compression = "zip"

    def encode(self, pixels: NDArray[Any]) -> bytes | NDArray[Any]:
        return zlib.compress(np.ascontiguousarray(pixels).data, ZIP_LEVEL)

    def _set_filter(self, properties: Any) -> None:
        properties.set_deflate(ZIP_LEVEL)


class BitshuffleLz4Codec(Codec):
    """Bitshuffle and LZ4."""

    name: Compression = "bshuf_lz4"

    def encode(self, pixels: NDArray[Any]) -> bytes | NDArray[Any]:
        import bitshuffle

        pixels = np.ascontiguousarray(pixels)
        with _one_openmp_thread():
            packed = bitshuffle.compress_lz4(pixels, _block_elements(pixels))
        return _with_header(pixels, packed)

    def _set_filter(self, properties: Any) -> None:
        importlib.import_module("hdf5plugin")  # registers the filter
        properties.set_filter(_BITSHUFFLE, _HDF5_MANDATORY, (0, _BITSHUFFLE_LZ4))


class BitshuffleZstdCodec(Codec):
    """Bitshuffle and Zstandard: slower than LZ4, smaller."""

    name: Compression = "bshuf_zstd"

    def encode(self, pixels: NDArray[Any]) -> bytes | NDArray[Any]:
        import bitshuffle

        pixels = np.ascontiguousarray(pixels)
        with _one_openmp_thread():
            packed = bitshuffle.compress_zstd(pixels, _block_elements(pixels), ZSTD_LEVEL)
        return _with_header(pixels, packed)

    def _set_filter(self, properties: Any) -> None:
        importlib.import_module("hdf5plugin")  # registers the filter
        properties.set_filter(_BITSHUFFLE, _HDF5_MANDATORY, (0, _BITSHUFFLE_ZSTD, ZSTD_LEVEL))


CODECS: dict[Compression, Codec] = {
    codec.name: codec
    for codec in (NoCodec(), ZipCodec(), BitshuffleLz4Codec(), BitshuffleZstdCodec())
}
"""All codecs by the names of the parameters."""


def preload() -> None:
    """Import the libraries, which takes half a second; for a background thread at start.

    Raises:
        ImportError: one of them is not installed.
    """
    for name in ("h5py", "hdf5plugin", "bitshuffle"):
        importlib.import_module(name)
    _openmp()


def _block_elements(pixels: NDArray[Any]) -> int:
    return _BLOCK_BYTES // pixels.itemsize


def _with_header(pixels: NDArray[Any], packed: NDArray[np.uint8]) -> bytes:
    """What the HDF5 filter puts before the data: size of the frame and of a block, big endian.

    ``join`` copies below a mebibyte without letting go of the interpreter: getting it back can
    take longer than the copy.
    """
    header = pixels.nbytes.to_bytes(8, "big") + _BLOCK_BYTES.to_bytes(4, "big")
    return b"".join((header, packed.data))


@cache
def _openmp() -> ctypes.PyDLL | None:
    """The OpenMP library that bitshuffle runs on; None if it was built without.

    `ctypes.PyDLL` keeps the interpreter during a call, which is right for nanoseconds.
    """
    import bitshuffle.ext

    library = ctypes.PyDLL(bitshuffle.ext.__file__)  # finds names in what it is linked to, too
    return library if hasattr(library, "omp_set_num_threads") else None


@contextmanager
def _one_openmp_thread() -> Iterator[None]:
    """Have bitshuffle work on the calling thread alone, as the workers already fill all cores.

    OpenMP keeps this number for each thread, so nothing else in the process changes, and no
    environment variable is needed.
    """
    openmp = _openmp()
    if openmp is None:
        yield
        return
    before = openmp.omp_get_max_threads()
    openmp.omp_set_num_threads(1)
    try:
        yield
    finally:
        openmp.omp_set_num_threads(before)
