"""Finding recorded frames: which file holds which, checked before anything starts."""

from __future__ import annotations

import os
import stat
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from camera_plugins.reader._sdk import FileError, FileType, FrameFile, open_frames
from camera_plugins.reader.params import ReaderDetParams
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import pixel_type_of
from lima2_core.errors import ParamError

_MAX_FILES = 1_000_000
_NAME_KEYS = ("filename_prefix", "filename_rank", "file_number", "filename_suffix")


@dataclass(frozen=True, slots=True)
class Recording:
    """The frames to play, out of one file or several that follow each other.

    Shapes: ``shape`` is (bands, rows, cols).
    """

    files: tuple[Path, ...]
    kind: FileType
    dataset: str
    per_file: int
    """Frames in each file but the last."""
    chosen: range
    """Numbers, among all recorded frames, of those to play."""
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    fields: tuple[FrameField, ...] = ()
    """Values that come with every frame."""

    def place(self, frame: int) -> tuple[int, int]:
        """File and place in it of a played frame; after the last comes the first again."""
        return divmod(self.chosen[frame % len(self.chosen)], self.per_file)

    def open(self, number: int) -> FrameFile:
        """Open a file and compare it with the first.

        Raises:
            FileError: it is gone or different.
        """
        file = open_frames(self.kind, self.files[number], self.dataset)
        if (file.shape, file.dtype) != (self.shape, self.dtype):
            text = f"{self.files[number]} has frames {file.shape} {file.dtype}"
            file.close()
            raise FileError(f"{text}, the first file {self.shape} {self.dtype}")
        if file.fields != self.fields:
            file.close()
            raise FileError(f"{self.files[number]} tells of its frames what the first does not")
        return file


def find(det: ReaderDetParams, data_root: str) -> Recording:
    """Look up what is to be played.

    Args:
        det: names one file, or a series.
        data_root: folder that holds all files that may be played; empty = any.

    Raises:
        ParamError: there is no such recording; the path names the parameter to blame.
    """
    root = Path(data_root).resolve() if data_root else None
    if det.file:
        name, _, dataset = det.file.partition("::")
        files = [_regular(Path(name), root, "det.file")]
        blame, dataset = "det.file", dataset or det.dataset_path
        blame_dataset = "det.file" if "::" in det.file else "det.dataset_path"
    else:
        files = _series(det, root)
        blame, dataset, blame_dataset = "det.filename_prefix", det.dataset_path, "det.dataset_path"
    try:
        first = _described(det.file_type, files[0], dataset)
        last = _described(det.file_type, files[-1], dataset) if len(files) > 1 else first
    except FileError as error:
        raise ParamError(str(error), path=blame_dataset if error.in_dataset else blame) from error
    try:
        pixel_type_of(first.dtype)
    except ValueError as error:
        raise ParamError(f"{files[0]}: {error}", path=blame_dataset) from error
    if 0 in first.shape:
        raise ParamError(
            f"the frames of {files[0]} have no pixels: {first.shape}", path=blame_dataset
        )
    if (last.shape, last.dtype) != (first.shape, first.dtype):
        raise ParamError(
            f"the frames of {files[-1]} are {last.shape} {last.dtype}, those of {files[0].name} "
            f"{first.shape} {first.dtype}",
            path=blame,
        )
    if len(files) > 1 and det.file_type == "nexus" and first.nb_frames != det.nb_frames_per_file:
        raise ParamError(
            f"{files[0]} is the first of {len(files)} files and holds {first.nb_frames} frames, "
            f"not {det.nb_frames_per_file}",
            path="det.nb_frames_per_file",
        )
    total = (len(files) - 1) * first.nb_frames + last.nb_frames
    return Recording(
        files=tuple(files),
        kind=det.file_type,
        dataset=dataset,
        per_file=max(1, first.nb_frames),
        chosen=_chosen(det, total),
        shape=first.shape,
        dtype=first.dtype,
        fields=first.fields,
    )


@dataclass(frozen=True, slots=True)
class _Described:
    nb_frames: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    fields: tuple[FrameField, ...]


def _described(kind: FileType, path: Path, dataset: str) -> _Described:
    file = open_frames(kind, path, dataset)
    try:
        return _Described(file.nb_frames, file.shape, file.dtype, file.fields)
    finally:
        file.close()


def _chosen(det: ReaderDetParams, total: int) -> range:
    part = det.frame_slice
    there = range(part.start, total, part.stride)
    if not there:
        raise ParamError(
            f"there are {total} recorded frames, none at {part.start}", path="det.frame_slice.start"
        )
    if part.count > len(there):
        raise ParamError(
            f"{part.count} frames are asked for, there are {len(there)} from frame {part.start} "
            f"in steps of {part.stride}",
            path="det.frame_slice.count",
        )
    return there[: part.count] if part.count else there


def _series(det: ReaderDetParams, root: Path | None) -> list[Path]:
    """All files of the series, up to the first number that is missing."""
    base = Path(det.base_path)
    try:
        present = set(os.listdir(base))
    except (OSError, ValueError) as error:
        raise ParamError(f"the folder cannot be read: {error}", path="det.base_path") from error
    files: list[Path] = []
    for number in range(det.start_number, det.start_number + _MAX_FILES):
        name = _file_name(det, number)
        if name not in present:
            break
        if files and files[0].name == name:
            break  # the format has no number: a single file
        files.append(_regular(base / name, root, "det.base_path"))
    if not files:
        raise ParamError(
            f"there is no file {_file_name(det, det.start_number)!r} in {base}",
            path="det.filename_prefix",
        )
    return files


def _file_name(det: ReaderDetParams, number: int) -> str:
    values = {
        "filename_prefix": det.filename_prefix,
        "filename_rank": det.filename_rank,
        "file_number": number,
        "filename_suffix": det.filename_suffix,
    }
    path = "det.filename_format"
    parts: list[str] = []
    try:
        for text, key, how, conversion in string.Formatter().parse(det.filename_format):
            parts.append(text)
            if key is None:
                continue
            # Names and widths only: a format can do more than is good for a server.
            if key not in values or conversion or not _is_width(how or ""):
                raise ParamError(
                    f"{{{key}}} cannot stand there; use {', '.join(_NAME_KEYS)}, the numbers with "
                    "a width such as :05d",
                    path=path,
                )
            parts.append(format(values[key], how or ""))
    except ParamError:
        raise
    except ValueError as error:
        raise ParamError(f"this is no format of a file name: {error}", path=path) from error
    name = "".join(parts)
    if "/" in name or "\0" in name:
        raise ParamError(
            f"{name!r} is no file name; the folder is det.base_path", path="det.filename_prefix"
        )
    return name


def _is_width(how: str) -> bool:
    digits = how.removesuffix("d")
    return not digits or (digits.isdecimal() and int(digits) <= 20)


def _regular(path: Path, root: Path | None, blame: str) -> Path:
    """The file that is really meant.

    Raises:
        ParamError: it is not there, no regular file, or not below ``root``.
    """
    try:
        real = path.resolve(strict=True)
        is_file = stat.S_ISREG(real.stat().st_mode)
    except (OSError, ValueError, RuntimeError) as error:
        raise ParamError(f"{path} cannot be read: {error}", path=blame) from error
    if root is not None and not real.is_relative_to(root):
        raise ParamError(f"{path} is not below {root}, the folder of data here", path=blame)
    if not is_file:
        raise ParamError(f"{path} is no regular file", path=blame)
    return real
