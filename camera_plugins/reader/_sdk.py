"""The file libraries, imported when the first file is opened."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from camera_plugins.reader.rows import RowTable
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import Validity

FileType = Literal["nexus", "edf", "cbf", "tiff"]
_CBF_TEXT_BYTES = 8 * 1024
"""Where fabio looks for the binary section."""
_CBF_HEADER_BYTES = 2**20

_HDF5_ERRORS = (OSError, LookupError, ValueError, RuntimeError, TypeError, MemoryError)


class FileError(Exception):
    """The file, or its dataset if ``in_dataset``, is not what it should be."""

    def __init__(self, message: str, *, in_dataset: bool = False) -> None:
        super().__init__(message)
        self.in_dataset = in_dataset


class FrameFile(Protocol):
    """One open file with frames that all look the same."""

    nb_frames: int
    shape: tuple[int, int, int]
    """(bands, rows, cols)."""
    dtype: np.dtype[Any]
    """In the byte order of this computer."""
    fields: tuple[FrameField, ...]
    """Values that it tells of every frame."""

    def row(self, number: int) -> tuple[Validity, np.void | None]:
        """What became of one frame, and what the camera told of it.

        Raises:
            FileError: it cannot be read.
        """
        ...

    def read(self, number: int, into: NDArray[Any]) -> None:
        """Read one frame.

        Shapes: ``into`` (bands, rows, cols), contiguous.

        Raises:
            FileError: it cannot be read.
        """
        ...

    def close(self) -> None: ...


def open_frames(kind: FileType, path: Path, dataset: str) -> FrameFile:
    """Open a file; ``dataset`` is used by nexus files only.

    Raises:
        FileError: it cannot be read, or there are no frames in it.
    """
    return _NexusFile(path, dataset) if kind == "nexus" else _ImageFile(kind, path)


class _NexusFile:
    """A dataset of an HDF5 file."""

    def __init__(self, path: Path, dataset: str) -> None:
        import h5py
        import hdf5plugin  # noqa: F401  registers the compression filters

        try:
            self._file = h5py.File(path, "r")
        except _HDF5_ERRORS as error:
            raise FileError(f"{path} cannot be opened as an HDF5 file: {error}") from error
        try:
            self._data = self._dataset(h5py.Dataset, path, dataset)
            rank = self._data.ndim
            if rank not in (3, 4):
                raise FileError(
                    f"{dataset} of {path} has {rank} dimensions; frames need 3 (frames, rows, "
                    "columns) or 4 (frames, bands, rows, columns)",
                    in_dataset=True,
                )
            self._rows = self._table(path)
        except FileError:
            self._file.close()
            raise
        self.nb_frames = int(self._data.shape[0])
        bands, rows, cols = (1, 1, *self._data.shape[1:])[-3:]
        self.shape = (int(bands), int(rows), int(cols))
        self.dtype = self._data.dtype.newbyteorder("=")
        self.fields = self._rows.fields

    def row(self, number: int) -> tuple[Validity, np.void | None]:
        try:
            return self._rows.row(number)
        except _HDF5_ERRORS as error:
            raise FileError(
                f"what became of the frames of {self._file.filename} cannot be read: {error}"
            ) from error

    def _dataset(self, kind: type, path: Path, name: str) -> Any:
        try:
            found = self._file[name]
        except _HDF5_ERRORS as error:
            raise FileError(f"{path} has no dataset {name!r}: {error}", in_dataset=True) from error
        if not isinstance(found, kind):
            raise FileError(f"{name!r} of {path} is a group, no dataset", in_dataset=True)
        return found

    def _table(self, path: Path) -> RowTable:
        from h5py import check_enum_dtype

        try:
            return RowTable(self._data, check_enum_dtype)
        except _HDF5_ERRORS as error:
            raise FileError(f"what {path} tells of its frames cannot be read: {error}") from error

    def read(self, number: int, into: NDArray[Any]) -> None:
        try:
            self._data.read_direct(into[0] if self._data.ndim == 3 else into, np.s_[number])
        except _HDF5_ERRORS as error:
            raise FileError(f"frame {number} of {self._file.filename}: {error}") from error

    def close(self) -> None:
        self._file.close()


class _ImageFile:
    """A file of one or more images, read by fabio."""

    _CLASSES = {"edf": "edfimage", "cbf": "cbfimage", "tiff": "tifimage"}  # noqa: RUF012
    fields: tuple[FrameField, ...] = ()

    def __init__(self, kind: FileType, path: Path) -> None:
        from fabio import fabioformats

        self._path = path
        # The class by name, so that a file is never taken for something that was not asked for.
        image = fabioformats.get_class_by_name(self._CLASSES[kind])()
        if kind == "cbf":
            self._check_cbf(path, image.BINARAY_SECTION, image.STARTER)
        self._image = self._guarded(f"{path} cannot be read as {kind}", image.read, str(path))
        self._check_whole()
        self.nb_frames = int(self._image.nframes)
        first = self._image.data
        if first is None or first.ndim != 2:
            raise FileError(f"{path} holds no image of grey values")
        self.shape = (1, *first.shape)
        self.dtype = first.dtype.newbyteorder("=")

    def row(self, number: int) -> tuple[Validity, np.void | None]:
        return Validity.VALID, None

    def read(self, number: int, into: NDArray[Any]) -> None:
        about = f"image {number} of {self._path}"
        frame = self._guarded(about, self._image.get_frame, number)
        data = frame.data
        if data.shape != into.shape[1:] or data.dtype.newbyteorder("=") != into.dtype:
            raise FileError(f"{about} is {data.shape} {data.dtype}, unlike those before")
        into[0] = data

    def close(self) -> None:
        self._image.close()

    @staticmethod
    def _check_cbf(path: Path, section: bytes, starter: bytes) -> None:
        # fabio looks for the start of the pixels without end.
        try:
            with path.open("rb") as file:
                head = file.read(_CBF_HEADER_BYTES)
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error}") from error
        begin = head.find(section, 0, _CBF_TEXT_BYTES)
        if begin < 0 or head.find(starter, begin) < 0:
            raise FileError(f"{path} cannot be read as cbf: it has no binary section")

    def _check_whole(self) -> None:
        # fabio only logs such damage, and fills up with zeros.
        if getattr(self._image, "incomplete_file", False):
            raise FileError(f"{self._path} ends in the middle of an image")
        checksum = self._image.header.get("Content-MD5")
        if checksum is not None and hasattr(self._image, "cbs"):
            packed = self._image.cbs[self._image.start_binary + len(self._image.STARTER) :]
            found = base64.b64encode(hashlib.md5(packed, usedforsecurity=False).digest()).decode()
            if found != checksum:
                raise FileError(f"{self._path} is damaged: its checksum is wrong")

    @staticmethod
    def _guarded(about: str, call: Any, *args: Any) -> Any:
        try:
            return call(*args)
        # fabio raises anything for damaged files, also plain exceptions.
        except Exception as error:
            raise FileError(f"{about}: {type(error).__name__}: {error}") from error
