"""What the detector cannot do whatever else is asked for: refused as soon as it is written.

Each parameter is judged by itself, so that the order in which they are written does not matter.
What depends on several of them is judged when an acquisition is prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, TypeAlias

from lima2_core.camera.limits import (
    check_nb_frames_per_trigger,
    check_operation,
    check_time,
    check_trigger_mode,
)
from lima2_core.camera.params import AcquisitionParams
from lima2_core.errors import ParamError
from lima2_core.service.control import ControlService
from lima2_core.system.paths import ACQUISITION, below
from lima2_core.system.preflight import check_length

Check: TypeAlias = Callable[[AcquisitionParams, ControlService], None]


def check_limits(acquisition: AcquisitionParams, path: str, service: ControlService) -> None:
    """Refuse values that the detector takes with no others either.

    Args:
        acquisition: what is asked for.
        path: of the parameter that was written, in the tree of the front; empty for all.
        service: knows the detector.

    Raises:
        ParamError: the path names the parameter.
    """
    for concerned, check in _CHECKS.items():
        if not path or path == f"{ACQUISITION}.{concerned}":
            try:
                check(acquisition, service)
            except ParamError as error:
                raise below(ACQUISITION, error) from error


def _time(
    name: Literal["expo_time", "latency_time"], asked: AcquisitionParams, service: ControlService
) -> None:
    check_time(name, asked.acq, service.capabilities)


def _operation(name: str, asked: AcquisitionParams, service: ControlService) -> None:
    check_operation(name, asked.img, service.capabilities.image_operations)


def _roi(asked: AcquisitionParams, service: ControlService) -> None:
    _operation("roi", asked, service)
    roi = asked.img.roi
    cols, rows = _size(service)
    x_end, y_end = roi.topleft.x + roi.dimensions.x, roi.topleft.y + roi.dimensions.y
    # With binning the image has fewer pixels; that is judged with the binning.
    if x_end > cols or y_end > rows:
        raise ParamError(
            f"{roi.dimensions.y} x {roi.dimensions.x} pixels (rows x columns) from row "
            f"{roi.topleft.y}, column {roi.topleft.x} do not lie in the detector, which has "
            f"{rows} x {cols}",
            path="img.roi",
        )


def _binning(asked: AcquisitionParams, service: ControlService) -> None:
    _operation("binning", asked, service)
    binning = asked.img.binning
    cols, rows = _size(service)
    if binning.x > cols or binning.y > rows:
        raise ParamError(
            f"{binning.y} x {binning.x} pixels (rows x columns) are more than the {rows} x {cols} "
            "of the detector",
            path="img.binning",
        )


def _size(service: ControlService) -> tuple[float, float]:
    """Columns and rows; no limit while they are not known."""
    size = service.detector_info()["dimensions"]
    return size["x"] or float("inf"), size["y"] or float("inf")


_CHECKS: Mapping[str, Check] = {
    "acq.nb_frames": lambda asked, service: check_length(asked.acq.nb_frames),
    "acq.expo_time": partial(_time, "expo_time"),
    "acq.latency_time": partial(_time, "latency_time"),
    "acq.trigger_mode": lambda asked, service: check_trigger_mode(asked.acq, service.capabilities),
    "acq.nb_frames_per_trigger": lambda asked, service: check_nb_frames_per_trigger(
        asked.acq, service.capabilities
    ),
    "img.roi": _roi,
    "img.binning": _binning,
    "img.flip": partial(_operation, "flip"),
}
