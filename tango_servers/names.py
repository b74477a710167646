"""Every name, number and format tag that Tango clients see. They are frozen: a test says so."""

from __future__ import annotations

import enum
import re

from lima2_core.errors import ParamError
from lima2_core.state.device import AcqState

SERVER = "lima2_tango"
CONTROL_SUFFIX = "Control"
RECEIVER_SUFFIX = "Receiver"
PROCESSING_FAMILY = "limaprocessing"
RUN_FAMILY = "limarun"
RUN_CLASS = "Lima2Run"

ACQ_PARAMS = "acq_params"
PROC_PARAMS = "proc_params"
FRONT_PARAMS = "front_params"
SCHEMA = "schema"
VERSION = "Version"
NO_ERROR = "No error"
ERROR_REASON = "LIMA_Exception"
CAMERA_MESSAGE = "cameraMessage"

# Members become the labels of DevEnum attributes, in lower case (contract 01, 3.1).
AcqStateLabel = enum.IntEnum(  # type: ignore[misc]
    "AcqStateLabel", {state.name.lower(): state.value for state in AcqState}
)


class LogLevel(enum.IntEnum):
    """Labels of the attribute ``log_level``."""

    trace = 0
    debug = 1
    info = 2
    warning = 3
    error = 4
    fatal = 5


def control_class(plugin: str) -> str:
    """Tango class of the control device of a camera."""
    return f"Lima{plugin}{CONTROL_SUFFIX}"


def receiver_class(plugin: str) -> str:
    """Tango class of the receiver devices of a camera."""
    return f"Lima{plugin}{RECEIVER_SUFFIX}"


def plugin_of(class_name: str) -> tuple[str, str] | None:
    """Camera and role (`CONTROL_SUFFIX` or `RECEIVER_SUFFIX`) of a Tango class, if it is ours."""
    for suffix in (CONTROL_SUFFIX, RECEIVER_SUFFIX):
        if class_name.startswith("Lima") and class_name.endswith(suffix):
            plugin = class_name.removeprefix("Lima").removesuffix(suffix)
            if plugin:
                return plugin, suffix
    return None


def processing_device(receiver_device: str, acq_id: str, receiver_idx: int) -> str:
    """Name of the processing device of a run, in the domain of its receiver."""
    domain = receiver_device.split("/")[-3]
    return f"{domain}/{PROCESSING_FAMILY}/{acq_id}@{receiver_idx}"


def run_device(control_device: str, acq_id: str) -> str:
    """Name of the device of a run of the whole system, in the domain of its control."""
    return f"{domain_of(control_device)}/{RUN_FAMILY}/{acq_id}"


def is_run_device(device: str) -> bool:
    """Whether a server made this device for a run, rather than an operator for good."""
    return device.split("/")[-2].lower() in (PROCESSING_FAMILY, RUN_FAMILY)


def domain_of(device: str) -> str:
    """First part of a device name.

    Raises:
        ParamError: it is no device name.
    """
    parts = device.split("/")
    if len(parts) < 3:
        raise ParamError(f"{device!r} is no device name", path="device")
    return parts[-3]


def natural_key(text: str) -> tuple[tuple[int, str], ...]:
    """Sort key that puts 2 before 10 and ignores case."""
    parts = re.findall(r"\d+|\D+", text.lower())
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
