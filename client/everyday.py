"""What is asked for in most acquisitions, in short words and seconds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from client.errors import ParamError
from client.params import Parameters, Params
from client.schema import Leaf

_NB_FRAMES = "acquisition.acq.nb_frames"
_EXPOSURE = "acquisition.acq.expo_time"
_LATENCY = "acquisition.acq.latency_time"
_PROCESSING = "processing"
_PREFIX, _FOLDER, _ENABLED = "filename_prefix", "base_path", "enabled"
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Everyday:
    """What shall be different from the parameters; None leaves it as it is."""

    nb_frames: int | None = None
    """0 = until it is stopped."""
    exposure_s: float | None = None
    latency_s: float | None = None
    save_to: str | os.PathLike[str] | None = None
    """Folder for files, a relative one below the present folder; it switches saving on."""
    prefix: str | None = None

    def values(self, params: Params) -> Mapping[str, Any]:
        """Values by the path of their parameter.

        Raises:
            ParamError: a time or a folder is none, or this pipeline writes no files.
        """
        values: dict[str, Any] = {}
        if self.nb_frames is not None:
            values[_NB_FRAMES] = self.nb_frames
        for path, time_s in ((_EXPOSURE, self.exposure_s), (_LATENCY, self.latency_s)):
            if time_s is not None:
                values[path] = _in_unit(params, path, time_s)
        if self.save_to is not None:
            group = _about_files(params)
            folder = f"{group}.{_FOLDER}"
            if not isinstance(self.save_to, str | os.PathLike):
                raise ParamError(f"must be a folder, not {self.save_to!r}", path=folder)
            values |= {f"{group}.{_ENABLED}": True, folder: os.path.abspath(self.save_to)}
        if self.prefix is not None:
            values[f"{_about_files(params)}.{_PREFIX}"] = self.prefix
        return values


def _in_unit(params: Params, path: str, time_s: float) -> float | int:
    """A time in the unit of its parameter, whole where it has to be."""
    leaf = params.node(path)
    if not isinstance(leaf, Leaf) or leaf.unit not in _PER_SECOND:
        raise ParamError("this is no time", path=path)
    try:
        value = float(time_s) * _PER_SECOND[leaf.unit]
        return round(value) if leaf.schema.get("type") == "integer" else value
    except (TypeError, ValueError, OverflowError):
        raise ParamError(f"must be a time in seconds, not {time_s!r}", path=path) from None


def _about_files(params: Params) -> str:
    """Path of the group about the files of processed frames.

    Raises:
        ParamError: this pipeline writes none.
    """
    processing = params[_PROCESSING]
    for name in processing:
        group = processing[name]
        if isinstance(group, Parameters) and _PREFIX in group:
            return f"{_PROCESSING}.{name}"
    raise ParamError("this pipeline writes no files; choose another class_name", path=_PROCESSING)
