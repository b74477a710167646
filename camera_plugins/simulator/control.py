"""The control part of the simulated detector."""

from __future__ import annotations

import math

from camera_plugins.simulator.params import SimulatorParams
from camera_plugins.simulator.view import view_of
from lima2_core.camera.api import CameraEnv, CameraLink, Capabilities, DetectorInfo, Failure
from lima2_core.camera.exposures import ENDLESS
from lima2_core.camera.paced import PacedControl
from lima2_core.camera.params import AcquisitionParams
from lima2_core.errors import CameraError

_PIXEL_SIZE_M = 75e-6
_MAX_SIZE = 65_535


def detector_size(env: CameraEnv) -> tuple[int, int]:
    """Rows and columns of the detector.

    Raises:
        CameraError: a property of the installation is wrong.
    """
    return _length(env, "rows"), _length(env, "cols")


def _length(env: CameraEnv, name: str) -> int:
    text = env.properties.get(name, "2048")
    if not text.strip().isdecimal() or not 1 <= int(text) <= _MAX_SIZE:
        raise CameraError(
            f"the property {name} of the simulator is {text!r}; give a whole number from 1 to "
            f"{_MAX_SIZE}"
        )
    return int(text)


def _edge_period_s(env: CameraEnv) -> float:
    """Time between the edges of the simulated trigger input; 0 = it is not connected."""
    text = env.properties.get("external_edge_period_s", "")
    if not text.strip():
        return 0.0
    try:
        period_s = float(text)
    except ValueError:
        period_s = math.nan
    if not 1e-6 <= period_s <= 1e6:
        raise CameraError(
            f"the property external_edge_period_s of the simulator is {text!r}; give seconds from "
            "1e-6 to 1e6"
        )
    return period_s


def life_of(params: AcquisitionParams) -> int:
    """Frames that the detector exposes before it dies."""
    dead_after = params.det.dead_after_frames if isinstance(params, SimulatorParams) else 0
    return dead_after or ENDLESS


class SimulatorControl(PacedControl):
    """A detector that is always ready and exact to the microsecond."""

    def __init__(self, env: CameraEnv, link: CameraLink) -> None:
        self._size = detector_size(env)
        super().__init__(env, link, _edge_period_s(env))

    def info(self) -> DetectorInfo:
        rows, cols = self._size
        return DetectorInfo("Simulator", "0", rows, cols, (_PIXEL_SIZE_M, _PIXEL_SIZE_M))

    def capabilities(self) -> Capabilities:
        external = ("external",) if self._edge_period_s else ()
        return Capabilities(
            trigger_modes=("internal", "software", *external),
            expo_time_range_s=(1e-6, 10.0),
            latency_time_range_s=(0.0, 1.0),
        )

    def check(self, params: AcquisitionParams) -> None:
        super().check(params)
        if not isinstance(params, SimulatorParams):
            raise TypeError(f"the simulator takes SimulatorParams, not {type(params).__name__}")
        view_of(params.img, *self._size)

    def failure(self) -> Failure | None:
        run = self._run
        if run is None or run.started_s is None or run.nb_final is not None:
            return None
        exposed = self._exposed(run)
        if exposed < self._most(run.params) or exposed == run.params.acq.nb_frames:
            return None
        return Failure(
            f"the simulated detector died after {exposed} frames, as det.dead_after_frames asks"
        )

    def _most(self, params: AcquisitionParams) -> int:
        return min(super()._most(params), life_of(params))
