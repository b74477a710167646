"""What the detector cannot do whatever else is asked for: refused as soon as it is written.

Each parameter is judged by itself, so that the order in which they are written does not matter.
What depends on several of them is judged when an acquisition is prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from lima2_core.camera.paced import check_operation
from lima2_core.camera.params import AcqParams, AcquisitionParams, BinningParams, RectParams
from lima2_core.errors import ParamError
from lima2_core.service.control import ControlService
from lima2_core.system.paths import ACQUISITION
from lima2_core.system.preflight import check_length

_NS = 1e-9
_US = 1e-6

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
        if not path or concerned == path:
            check(acquisition, service)


def _nb_frames(asked: AcquisitionParams, service: ControlService) -> None:
    check_length(asked.acq.nb_frames)


def _expo_time(asked: AcquisitionParams, service: ControlService) -> None:
    _check_time("expo_time", asked.acq, service.detector_capabilities())


def _latency_time(asked: AcquisitionParams, service: ControlService) -> None:
    _check_time("latency_time", asked.acq, service.detector_capabilities())


def _check_time(name: str, acq: AcqParams, able: Mapping[str, Any]) -> None:
    low_s, high_s = (limit * _NS for limit in able[f"{name}_range"])
    time_s = getattr(acq, name) * _US
    # Half a microsecond: times are in whole ones, and limits may lie between them.
    if not low_s - _US / 2 <= time_s <= high_s + _US / 2:
        raise ParamError(
            f"{time_s:.9g} s is outside {low_s:.9g} to {high_s:.9g} s, which the detector can do",
            path=f"{ACQUISITION}.acq.{name}",
        )


def _trigger_mode(asked: AcquisitionParams, service: ControlService) -> None:
    offered = service.detector_capabilities()["trigger_modes"]
    mode = asked.acq.trigger_mode
    if mode not in offered:
        raise ParamError(
            f"{mode!r} is not offered by the detector; choose one of {', '.join(offered)}",
            path=f"{ACQUISITION}.acq.trigger_mode",
        )


def _nb_frames_per_trigger(asked: AcquisitionParams, service: ControlService) -> None:
    low, high = service.detector_capabilities()["nb_frames_per_trigger_range"]
    number = asked.acq.nb_frames_per_trigger
    if not low <= number <= high:
        raise ParamError(
            f"{number} is outside {low} to {high}, which the detector can do",
            path=f"{ACQUISITION}.acq.nb_frames_per_trigger",
        )


def _roi(asked: AcquisitionParams, service: ControlService) -> None:
    _check_operation("roi", asked, service)
    roi: RectParams = asked.img.roi
    cols, rows = _size(service)
    x_end, y_end = roi.topleft.x + roi.dimensions.x, roi.topleft.y + roi.dimensions.y
    # With binning the image has fewer pixels; that is judged with the binning.
    if x_end > cols or y_end > rows:
        raise ParamError(
            f"{roi.dimensions.y} x {roi.dimensions.x} pixels (rows x columns) from row "
            f"{roi.topleft.y}, column {roi.topleft.x} do not lie in the detector, which has "
            f"{rows} x {cols}",
            path=f"{ACQUISITION}.img.roi",
        )


def _binning(asked: AcquisitionParams, service: ControlService) -> None:
    _check_operation("binning", asked, service)
    binning: BinningParams = asked.img.binning
    cols, rows = _size(service)
    if binning.x > cols or binning.y > rows:
        raise ParamError(
            f"{binning.y} x {binning.x} pixels (rows x columns) are more than the {rows} x {cols} "
            "of the detector",
            path=f"{ACQUISITION}.img.binning",
        )


def _flip(asked: AcquisitionParams, service: ControlService) -> None:
    _check_operation("flip", asked, service)


def _check_operation(name: str, asked: AcquisitionParams, service: ControlService) -> None:
    check_operation(asked.img, name, service.image_operations, f"{ACQUISITION}.img")


def _size(service: ControlService) -> tuple[float, float]:
    """Columns and rows; no limit while they are not known."""
    size = service.detector_info()["dimensions"]
    return size["x"] or float("inf"), size["y"] or float("inf")


_CHECKS: Mapping[str, Check] = {
    f"{ACQUISITION}.acq.nb_frames": _nb_frames,
    f"{ACQUISITION}.acq.expo_time": _expo_time,
    f"{ACQUISITION}.acq.latency_time": _latency_time,
    f"{ACQUISITION}.acq.trigger_mode": _trigger_mode,
    f"{ACQUISITION}.acq.nb_frames_per_trigger": _nb_frames_per_trigger,
    f"{ACQUISITION}.img.roi": _roi,
    f"{ACQUISITION}.img.binning": _binning,
    f"{ACQUISITION}.img.flip": _flip,
}
