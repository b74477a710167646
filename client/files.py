"""Master files, read with plain h5py, which is imported when the first one is opened.

An index file leads to segments, each with consecutive frames; a segment shows every frame where
a receiver saved it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from client.errors import ClientError, NotAvailableError, StorageError
from client.frames import THERE, Frame, Gap, Hits, Validity

_PART_OF_MASTER = re.compile(r"(.+)_(?:master|\d+)_\d{5,}\.h5")
"""Files behind an index, by the name of which theirs begin."""

HDF5_ERRORS = (OSError, RuntimeError, ValueError, LookupError)
"""What h5py raises about files that are missing, locked or broken."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive frames in a file of their own."""

    number: int
    first: int
    length: int
    path: Path
    dataset: str
    """Path of the images, or of the group with the hits."""

    @property
    def name(self) -> str:
        """The last part of ``dataset``, in the group of the detector."""
        return self.dataset.rpartition("/")[2]


class NoMasterError(StorageError):
    """A file can be read, and is no master file; the message tells what it is, if that is known."""

    remedy = "The frames of a run are shown by its index file, ..._master.h5."


class MasterFile:
    """The frames of one source of a run; a context manager.

    Args:
        path: of the index file, ``..._master.h5``.

    Raises:
        StorageError: it cannot be opened.
        NoMasterError: it is no master file.
        ClientError: h5py is not installed.

    Threads: by one at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._h5py = hdf5()
        self._segment: tuple[int, Any] | None = None
        self._has_hits: bool | None = None
        try:
            self._file = self._h5py.File(path, "r")
        except OSError as error:
            raise StorageError(f"{path} cannot be opened: {error}", file=str(path)) from error
        try:
            self.entry = self._file[self._file.attrs["default"]]
            self.detector = detector_of(self._file)
            if "segments" not in self.detector:
                raise _no_master(path, self.detector)
            self.segments = self._segments()
            self.final = "validity" in self.detector
            """Whether it was written at the end of the run."""
        except HDF5_ERRORS as error:
            self._file.close()
            raise NoMasterError(f"{path} is no master file: {error}", file=str(path)) from error
        except NoMasterError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._close_segment()
        self._file.close()

    @property
    def codes(self) -> NDArray[np.uint8]:
        """Class of every frame; of frames in segments only, while the run goes on."""
        if self.final:
            return np.asarray(self.detector["validity"][()], np.uint8)
        pieces = [self.segment(one)["validity"][()] for one in self.segments]
        return np.concatenate(pieces).astype(np.uint8) if pieces else np.empty(0, np.uint8)

    def __len__(self) -> int:
        last = self.segments[-1] if self.segments else None
        return last.first + last.length if last else 0

    def segment(self, segment: Segment) -> Any:
        """The detector group of a segment; it is closed when another one is opened.

        Raises:
            OSError, ValueError, LookupError: it cannot be opened, or is none.
        """
        if self._segment is None or self._segment[0] != segment.number:
            self._close_segment()
            self._segment = (segment.number, self._h5py.File(segment.path, "r"))
        return self._segment[1][segment.dataset.rpartition("/")[0]]

    @property
    def has_hits(self) -> bool:
        """Whether it shows the hits of frames, and not images; False while it shows nothing.

        Raises:
            StorageError: the first segment cannot be read.
        """
        if self._has_hits is None and self.segments:
            first = self.segments[0]
            try:
                self._has_hits = _is_hits(self.segment(first)[first.name])
            except HDF5_ERRORS as error:
                raise _unreadable("whether it has hits", first, error) from error
        return bool(self._has_hits)

    def frame(self, idx: int) -> Frame | Gap:
        """One frame by its index; where only hits were saved, all other pixels read 0.

        Raises:
            NotAvailableError: the run has no such frame, or not yet.
            StorageError: it cannot be read.
        """
        found = self._read(idx)
        if isinstance(found, Hits):
            return Frame(idx, found.image(), found.validity, found.timestamp_s)
        return found

    def hits(self, idx: int) -> Hits | Gap:
        """The hits of one frame by its index.

        Raises:
            NotAvailableError: the run has no such frame, or not yet.
            StorageError: it cannot be read, or images were saved.
        """
        found = self._read(idx)
        if isinstance(found, Frame):
            raise StorageError(f"{self.path} has images, not hits", file=str(self.path))
        return found

    def _read(self, idx: int) -> Frame | Hits | Gap:
        place = bisect_right([one.first for one in self.segments], idx) - 1
        if not 0 <= idx < len(self):
            raise NotAvailableError(f"{self.path} has no frame {idx}", frame_idx=idx)
        segment = self.segments[place]
        n = idx - segment.first
        try:
            group = self.segment(segment)
            code = Validity(int(group["validity"][n]))
            if code not in THERE:
                return Gap(idx, code)
            data = group[segment.name]
            time_s = float(group["timestamp"][n])
            if _is_hits(data):
                first, last = (int(one) for one in data["frame_ptr"][n : n + 2])
                rows, cols = (int(one) for one in data.attrs["image_shape"])
                index, intensity = hits_between(data, first, last)
                return Hits(idx, index, intensity, (rows, cols), code, time_s)
            data = data[n]
        except HDF5_ERRORS as error:
            raise _unreadable(f"frame {idx}", segment, error) from error
        return Frame(idx, data if data.ndim == 3 else data[None], code, time_s)

    def __iter__(self) -> Iterator[Frame | Gap]:
        return (self.frame(idx) for idx in range(len(self)))

    def _segments(self) -> Sequence[Segment]:
        group = self.detector["segments"]
        found = []
        listed = zip(
            sorted(group), group.attrs["first_frame"], group.attrs["nb_frames"], strict=True
        )
        for name, first, length in listed:
            link = group.get(name, getlink=True)
            found.append(
                Segment(
                    int(name),
                    int(first),
                    int(length),
                    self.path.parent / link.filename,
                    str(link.path).strip("/"),
                )
            )
        return found

    def _close_segment(self) -> None:
        if self._segment is not None:
            self._segment[1].close()
            self._segment = None


class SavedFrames:
    """Single frames from a master that may still grow, as far as it can be seen from here.

    Args:
        path: tells the index file; None while there is none.

    Threads: by one at a time.
    """

    def __init__(self, path: Callable[[], Path | None]) -> None:
        self._path = path
        self._master: MasterFile | None = None

    def get(self, idx: int) -> Frame | None:
        """A frame; None if it is not to be had."""
        try:
            if self._master is None or idx >= len(self._master):
                self.close()
                path = self._path()
                if path is None or not path.exists():
                    return None
                self._master = MasterFile(path)
            # Hits are not all that was in the pixels.
            found = None if self._master.has_hits else self._master.frame(idx)
        except ClientError:
            return None
        return found if isinstance(found, Frame) else None

    def close(self) -> None:
        """Close the files."""
        if self._master is not None:
            self._master.close()
            self._master = None


def _no_master(path: Path, detector: Any) -> NoMasterError:
    """What to say of a file that has a detector, but no segments."""
    if "row" in detector:
        kind = "one segment of a master file"
    elif "validity" in detector:
        kind = "the file of one receiver, not a master file"
    else:
        return NoMasterError(f"{path} is no master file", file=str(path))
    told = _PART_OF_MASTER.fullmatch(path.name)
    index = path.with_name(f"{told[1]}_master.h5") if told else None
    if index is not None and index.exists():
        where = f"the index is {index}"
    else:
        where = "there is no index beside it" + (f" ({index.name})" if index is not None else "")
    return NoMasterError(f"{path} is {kind}; {where}", file=str(path))


def _is_hits(data: Any) -> bool:
    """Whether something that shows frames is a group of hits."""
    return "frame_ptr" in data if hasattr(data, "keys") else False


def hits_between(data: Any, first: int, last: int) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Positions and values of some hits of a group.

    Raises:
        OSError: they cannot be read.
    """
    index, intensity = (data[name] for name in ("index", "intensity"))
    if first >= last:
        # HDF5 2.0 cannot read nothing from a dataset of many mappings.
        return np.empty(0, index.dtype), np.empty(0, intensity.dtype)
    return index[first:last], intensity[first:last]


def _unreadable(what: str, segment: Segment, error: Exception) -> StorageError:
    return StorageError(
        f"{what} cannot be read from {segment.path}: {error}", file=str(segment.path)
    )


def hdf5() -> Any:
    """The module h5py, with the filters of compressed files if they are installed.

    Raises:
        ClientError: it is not installed.
    """
    for name in ("hdf5plugin", "h5py"):
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
        elif name == "h5py":
            raise ClientError("reading files needs h5py: pip install h5py hdf5plugin")
    return importlib.import_module("h5py")


def detector_of(file: Any) -> Any:
    """The detector group of a file: where the attributes ``default`` lead to.

    Raises:
        LookupError: there is none.
    """
    here = file[file.attrs["default"]]
    while here.attrs.get("NX_class") != "NXdetector":
        here = here[here.attrs["default"]]
    return here
