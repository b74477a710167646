"""Parameters of an acquisition held against what a detector can do, each by itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from lima2_core.camera.api import Capabilities
from lima2_core.camera.params import IMAGE_OPERATIONS, AcqParams, AcquisitionParams, ImageParams
from lima2_core.errors import ParamError


def check_against(params: AcquisitionParams, able: Capabilities) -> None:
    """Refuse what a detector cannot do, and operations that only real detectors have.

    Raises:
        ParamError: the path names the parameter.
    """
    check_trigger_mode(params.acq, able)
    check_time("expo_time", params.acq, able)
    check_time("latency_time", params.acq, able)
    check_nb_frames_per_trigger(params.acq, able)
    for name in IMAGE_OPERATIONS:
        check_operation(name, params.img, able.image_operations)
    if params.accu.nb_frames != 1:
        raise ParamError(
            "this detector does not accumulate; use 1, and the accumulation of the processing",
            path="accu.nb_frames",
        )
    for name, value, only in (
        ("start", params.xfer.slice.start, 0),
        ("stride", params.xfer.slice.stride, 1),
    ):
        if value != only:
            raise ParamError(
                f"all frames are transferred; use {only}, not {value}", path=f"xfer.slice.{name}"
            )


def check_trigger_mode(acq: AcqParams, able: Capabilities) -> None:
    """Refuse a trigger mode that the detector does not have.

    Raises:
        ParamError: the path names it.
    """
    if acq.trigger_mode not in able.trigger_modes:
        raise ParamError(
            f"{acq.trigger_mode!r} is not offered by the detector; choose one of "
            f"{', '.join(able.trigger_modes)}",
            path="acq.trigger_mode",
        )


def check_time(
    name: Literal["expo_time", "latency_time"], acq: AcqParams, able: Capabilities
) -> None:
    """Refuse a time that is too short or too long for the detector.

    Raises:
        ParamError: the path names it.
    """
    ranges = {"expo_time": able.expo_time_range_s, "latency_time": able.latency_time_range_s}
    low_s, high_s = ranges[name]
    time_us: int = getattr(acq, name)
    # Parameters are whole microseconds; limits may lie between them.
    if not round(low_s * 1e6) <= time_us <= round(high_s * 1e6):
        raise ParamError(
            f"{time_us * 1e-6:.9g} s is outside {low_s:.9g} to {high_s:.9g} s, which the detector "
            "can do",
            path=f"acq.{name}",
        )


def check_nb_frames_per_trigger(acq: AcqParams, able: Capabilities) -> None:
    """Refuse a number of frames that one trigger cannot give.

    Raises:
        ParamError: the path names it.
    """
    low, high = able.nb_frames_per_trigger_range
    number = acq.nb_frames_per_trigger
    if not low <= number <= high:
        raise ParamError(
            f"{number} is outside {low} to {high}, which the detector can do",
            path="acq.nb_frames_per_trigger",
        )


def check_operation(name: str, img: ImageParams, able: Collection[str]) -> None:
    """Refuse an operation on images that the detector does not have.

    Args:
        name: the operation.
        img: what is asked for.
        able: operations that the detector has.

    Raises:
        ParamError: the path names the operation.
    """
    if name not in able and getattr(img, name) != getattr(ImageParams(), name):
        raise ParamError(
            "the detector does not do this with its images; leave it as it is by default, and use "
            "the geometry of the processing",
            path=f"img.{name}",
        )
