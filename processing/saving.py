"""What a user may ask about files, and how they are called."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from lima2_core.data.frame import FrameSpec
from lima2_core.errors import ParamError
from lima2_core.flow.pipeline import SavedFiles
from lima2_core.ids import AcqId
from lima2_core.schema import ParamsModel, quantity
from processing.codecs import Compression
from processing.file_locks import being_written

DEFAULT_FORMAT = "{filename_prefix}_{filename_rank}_{file_number:05d}{filename_suffix}"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""What no name of a file should have: lists of files show one in each line."""


class SavingParams(ParamsModel):
    """One saving block. What is written in it is judged only if it is enabled."""

    enabled: bool = False
    """Whether files are written."""
    base_path: str = "/tmp"
    """Folder of the files: absolute, existing, seen by receivers and readers alike."""
    filename_format: str = DEFAULT_FORMAT
    """Only formats that yield <prefix>_<rank>_<number>.h5: readers know no other name."""
    filename_prefix: str = "lima2"
    """First part of the file names."""
    filename_rank: int = Field(default=0, ge=0)
    """Index of the receiver, second part of the file names."""
    filename_suffix: str = ".h5"
    """Last part of the file names."""
    start_number: int = 0
    """Number of the first file; only 0."""
    file_exists_policy: Literal["abort", "overwrite", "append"] = "abort"
    """What to do with files of an earlier run: refuse to prepare, or remove them."""
    nb_frames_per_file: int = quantity("frames", default=50, ge=1)
    """Frames in each file but the last."""
    sampling: int = quantity("frames", default=1, ge=1)
    """One of so many frames is saved: those whose number in the acquisition is a multiple of it.
    The others keep their empty places, with the validity veto or with the cause of their loss, and
    take no space."""
    compression: Compression = "bshuf_lz4"
    """How frames are packed."""
    nx_entry_name: str = "entry_0000"
    """Name of the NXentry."""
    nx_instrument_name: str = "instrument"
    """Name of the NXinstrument."""
    nx_detector_name: str = "detector"
    """Name of the NXdetector."""
    nb_dimensions: Literal["dim_4d", "dim_3d_or_4d"] = "dim_3d_or_4d"
    """Whether frames of one band are saved with an axis for it."""
    include_frame_idx: bool = False
    """Whether the number of each frame in the acquisition is saved beside it."""

    @field_validator("base_path")
    @classmethod
    def _is_absolute(cls, value: str, info: ValidationInfo) -> str:
        if _enabled(info) and not os.path.isabs(value):
            raise ValueError("must be an absolute path, as servers have no folder of their own")
        if _enabled(info) and _CONTROL.search(value):
            raise ValueError(
                "must be the name of a folder, without line breaks or other control characters"
            )
        return value

    @field_validator("filename_prefix", "filename_suffix")
    @classmethod
    def _stays_in_base_path(cls, value: str, info: ValidationInfo) -> str:
        if _enabled(info) and ("/" in value or ".." in value or _CONTROL.search(value)):
            raise ValueError(
                "must be a part of a file name, without '/', '..', line breaks or other control "
                "characters"
            )
        return value

    @field_validator("filename_prefix")
    @classmethod
    def _is_given(cls, value: str, info: ValidationInfo) -> str:
        if _enabled(info) and not value:
            raise ValueError("must not be empty")
        return value

    @field_validator("start_number")
    @classmethod
    def _is_zero(cls, value: int, info: ValidationInfo) -> int:
        if _enabled(info) and value != 0:
            raise ValueError("must be 0, as readers look for files numbered from 0")
        return value

    @field_validator("file_exists_policy")
    @classmethod
    def _is_no_append(cls, value: str, info: ValidationInfo) -> str:
        if _enabled(info) and value == "append":
            raise ValueError(
                "must be abort or overwrite, as readers look for the first frame in file 0: "
                "choose another filename_prefix to keep older files"
            )
        return value

    @field_validator("nx_entry_name", "nx_instrument_name", "nx_detector_name")
    @classmethod
    def _is_group_name(cls, value: str, info: ValidationInfo) -> str:
        if _enabled(info) and (value in ("", ".", "..") or "/" in value or "\0" in value):
            raise ValueError("must be the name of one HDF5 group: not empty, without '/'")
        return value

    @property
    def folder(self) -> Path:
        return Path(self.base_path)

    @property
    def format_is_followed(self) -> bool:
        """Whether ``filename_format`` leads to the names that are used."""
        parts = {"filename_prefix": self.filename_prefix, "filename_suffix": self.filename_suffix}
        try:
            return all(
                self.filename_format.format(**parts, filename_rank=rank, file_number=number)
                == self.path(number, rank).name
                for rank, number in ((self.filename_rank, 0), (self.filename_rank + 1, 123456))
            )
        except (LookupError, ValueError, AttributeError, TypeError):
            return False

    def path(self, number: int, rank: int | None = None) -> Path:
        """File ``number`` of receiver ``rank`` (default: ``filename_rank``)."""
        rank = self.filename_rank if rank is None else rank
        return self.folder / f"{self.filename_prefix}_{rank}_{number:05d}.h5"

    @property
    def draft(self) -> Path:
        """Name of a file while it is being made."""
        return self.folder / f".{self.filename_prefix}_{self.filename_rank}.h5.new"

    def saved_files(self, spec: FrameSpec) -> SavedFiles:
        """Where frames of ``spec`` can be found, for those who put all receivers together."""
        detector = f"{self.nx_entry_name}/{self.nx_instrument_name}/{self.nx_detector_name}"
        return SavedFiles(
            folder=self.base_path,
            prefix=self.filename_prefix,
            rank=self.filename_rank,
            rows_per_file=self.nb_frames_per_file,
            dataset=f"{detector}/data",
            bands_axis=spec.shape[0] > 1 or self.nb_dimensions == "dim_4d",
            entry=self.nx_entry_name,
            detector=detector,
            sampling=self.sampling,
        )

    def existing_files(self) -> list[Path]:
        """Files of this prefix and rank, in order, of whatever run.

        Raises:
            OSError: the folder cannot be read.
        """
        name = re.compile(rf"{re.escape(self.filename_prefix)}_{self.filename_rank}_(\d{{5,}})\.h5")
        found = [
            (int(match[1]), Path(entry.path))
            for entry in os.scandir(self.folder)
            if (match := name.fullmatch(entry.name))
        ]
        return [path for _, path in sorted(found)]

    def check(self, where: str) -> None:
        """See whether files can be written; nothing is changed.

        Args:
            where: path of this block in the tree of parameters, such as ``saving``.

        Raises:
            ParamError: they cannot; the message says what to do.
        """
        if not self.enabled:
            return
        path = f"{where}.base_path"
        if not self.folder.exists():
            raise ParamError(
                f"the folder {self.folder} does not exist on this computer; make it, or choose one "
                "that does",
                path=path,
            )
        if not self.folder.is_dir():
            raise ParamError(f"{self.folder} is a file; name a folder", path=path)
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise ParamError(
                f"the server may not write to the folder {self.folder}; give its user (id "
                f"{os.geteuid()}) the right to read and write there",
                path=path,
            )
        try:
            existing = self.existing_files()
            free_bytes = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise ParamError(
                f"the folder {self.folder} cannot be used: {error.strerror}", path=path
            ) from error
        if free_bytes == 0 and not (existing and self.file_exists_policy == "overwrite"):
            raise ParamError(
                f"no space is left in the folder {self.folder}; remove files there, or choose "
                "another",
                path=path,
            )
        held = being_written(existing)
        if held is not None:
            raise ParamError(
                f"{held} is being written; wait for the end of that run, or choose another "
                "filename_prefix or base_path",
                path=f"{where}.filename_prefix",
                file=str(held),
            )
        if existing and self.file_exists_policy == "abort":
            raise ParamError(
                f"{existing[0]} exists; choose another filename_prefix or base_path, or the policy "
                "overwrite to lose what is in it",
                path=f"{where}.file_exists_policy",
                file=str(existing[0]),
            )


class InputSavingParams(SavingParams):
    """The saving block of frames as they came: their files lie beside those of processed ones."""

    filename_prefix: str = "lima2_input"
    """First part of the file names."""


class SparseSavingParams(SavingParams):
    """The saving block of sparse frames: their files lie beside those of images."""

    filename_prefix: str = "lima2_sparse"
    """First part of the file names."""


def _enabled(info: ValidationInfo) -> bool:
    """Whether the block is in use: who switches it off may leave anything in it."""
    return bool(info.data.get("enabled"))


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """What stands in every file besides frames; trees of dicts, lists and values."""

    acq_id: AcqId
    detector: Mapping[str, object] = field(default_factory=dict)
    """What the camera says about itself."""
    acquisition: Mapping[str, object] = field(default_factory=dict)
    """The acquisition parameters."""
    processing: Mapping[str, object] = field(default_factory=dict)
    """The processing parameters."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Values that are no measurements: `Marks.told`."""
    collections: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """How the frames were made, by the name of a group."""
    fill: float = 0
    """What pixels of frames read that are missing."""
