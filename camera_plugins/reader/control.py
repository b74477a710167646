"""The control part of the camera that plays files."""

from __future__ import annotations

import math
from pathlib import Path

from camera_plugins.reader.files import Recording, find
from camera_plugins.reader.params import ReaderParams
from lima2_core.camera.api import CameraEnv, CameraLink, Capabilities, DetectorInfo
from lima2_core.camera.limits import check_operation
from lima2_core.camera.paced import PacedControl
from lima2_core.camera.params import IMAGE_OPERATIONS, AcquisitionParams
from lima2_core.errors import ParamError
from lima2_core.ids import AcqId

_ABLE: tuple[str, ...] = ()
"""Recorded frames are played as they are: no operation on images is done."""
_LEAST_PIXEL_M, _MOST_PIXEL_M = 1e-9, 1.0


def recording_of(params: AcquisitionParams, env: CameraEnv) -> Recording:
    """The recorded frames that the parameters name.

    Raises:
        ParamError: there are none, or too few for ``acq.nb_frames``.
    """
    if not isinstance(params, ReaderParams):
        raise TypeError(f"the reader takes ReaderParams, not {type(params).__name__}")
    recording = find(params.det, env.properties.get("data_root", ""))
    there = len(recording.chosen)
    if params.acq.nb_frames > there and not params.det.loop:
        raise ParamError(
            f"{params.acq.nb_frames} frames are asked for and the files have {there}; ask for "
            "fewer, or set det.loop",
            path="acq.nb_frames",
        )
    for name in IMAGE_OPERATIONS:
        check_operation(name, params.img, _ABLE)
    return recording


def frames_to_play(params: ReaderParams, recording: Recording) -> int:
    """Frames of the whole system; 0 = endless."""
    return params.acq.nb_frames or (0 if params.det.loop else len(recording.chosen))


def _pixel_size_m(env: CameraEnv) -> float:
    """Edge of a pixel.

    Raises:
        ParamError: the property of the installation is none.
    """
    text = env.properties.get("pixel_size_m", "75e-6")
    try:
        size_m = float(text)
    except ValueError:
        size_m = math.nan
    if not _LEAST_PIXEL_M <= size_m <= _MOST_PIXEL_M:
        raise ParamError(
            f"{text!r} is no edge of a pixel; give metres from {_LEAST_PIXEL_M:g} to "
            f"{_MOST_PIXEL_M:g}",
            path="properties.pixel_size_m",
        )
    return size_m


def _check_root(env: CameraEnv) -> None:
    """Refuse a folder that cannot be one; it may come into being later.

    Raises:
        ParamError: the property of the installation is wrong.
    """
    root = Path(env.properties.get("data_root", "/"))
    if not root.is_absolute() or (root.exists() and not root.is_dir()):
        raise ParamError(
            f"{str(root)!r} is no folder; give the absolute path of one",
            path="properties.data_root",
        )


class ReaderControl(PacedControl):
    """Plays at the rate asked for; as fast as possible, it still counts at that rate.

    Then only the receivers know how far they are.
    """

    def __init__(self, env: CameraEnv, link: CameraLink) -> None:
        super().__init__(env, link)
        _check_root(env)
        self._env = env
        self._size = (0, 0)
        self._pixel_size_m = _pixel_size_m(env)

    def info(self) -> DetectorInfo:
        """Describe the detector; its size is that of the frames last looked up, 0 before."""
        edges_m = (self._pixel_size_m, self._pixel_size_m)
        return DetectorInfo("Reader", "0", *self._size, edges_m)

    def capabilities(self) -> Capabilities:
        return Capabilities(
            trigger_modes=("internal", "software"),
            expo_time_range_s=(1e-6, 3600.0),
            latency_time_range_s=(0.0, 3600.0),
            image_operations=_ABLE,
        )

    def check(self, params: AcquisitionParams) -> None:
        super().check(params)
        self._size = recording_of(params, self._env).shape[1:]

    def prepare(
        self, acq_id: AcqId, params: AcquisitionParams, n_receivers: int
    ) -> AcquisitionParams:
        recording = recording_of(params, self._env)
        if isinstance(params, ReaderParams):
            nb_frames = frames_to_play(params, recording)
            acq = params.acq.model_copy(update={"nb_frames": nb_frames})
            params = params.model_copy(update={"acq": acq})
        return super().prepare(acq_id, params, n_receivers)
