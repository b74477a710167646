"""What the Tango devices offer."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tango import CmdArgType

from lima2_core import registry
from lima2_core.camera.api import CameraPlugin
from lima2_core.data.record import FRAME_IDX_RECORD
from lima2_core.errors import Lima2Error
from lima2_core.flow.plugin import PipelinePlugin
from processing.kernels.regions import ROI_RECORD
from tables.markdown import code, installed, prose, table
from tango_servers.main import _device_class
from tango_servers.processing_device import Lima2Processing, processing_class
from tango_servers.run_device import Lima2Run


def control_tables() -> str:
    """Properties, attributes and commands of a control device."""
    return _device(_device_class("LimaSimulatorControl"), _settings("Simulator"))


def receiver_tables() -> str:
    """Properties, attributes and commands of a receiver device."""
    return _device(_device_class("LimaSimulatorReceiver"), _settings("Simulator"))


def processing_tables() -> str:
    """Attributes of all processing devices, and what each class adds."""
    parts = [_attributes(_own(Lima2Processing))]
    for plugin in installed(registry.PIPELINES):
        parts.append(f"\n### `{plugin.class_name}`\n\n{_pipeline(plugin)}")
    return "".join(parts)


def system_run_tables() -> str:
    """Attributes and commands of the device of a run of the whole system."""
    return f"{_attributes(_own(Lima2Run))}\n{_commands(Lima2Run)}"


def settings_table() -> str:
    """Settings of the installation that the cameras read."""
    return table(
        ("camera", "property", "meaning"),
        [
            (plugin.name, code(name), prose(doc))
            for plugin in installed(registry.CAMERAS)
            for name, doc in plugin.properties.items()
        ],
    )


def records_list() -> str:
    """Layout of the records."""
    lines = []
    for name, dtype in (
        ("`popRoiStatistics`, `popRoiProfiles`", ROI_RECORD),
        ("`popFrameIdx`", FRAME_IDX_RECORD),
    ):
        fields = ", ".join(f"`{field}` {dtype[field].str[1:]}" for field in dtype.names or ())
        lines.append(f"- {name}, {dtype.itemsize} bytes: {fields}\n")
    return "".join(lines)


def errors_table() -> str:
    """Errors by the code on the wire."""
    return table(("code", "class", "meaning"), _errors())


def _settings(camera: str) -> frozenset[str]:
    plugin: CameraPlugin = registry.load(registry.CAMERAS, camera)
    return frozenset(plugin.properties)


def _own(device: Any) -> dict[str, Any]:
    return dict(device.TangoClassClass.attr_list)


def _device(device: Any, camera_settings: frozenset[str]) -> str:
    listed = device.TangoClassClass.device_property_list
    properties = [
        (code(name), code(default if default not in ("", []) else ""), prose(doc))
        for name, (_, doc, default, *_) in listed.items()
        if name not in camera_settings
    ]
    return "\n".join(
        (
            table(("device property", "default", "meaning"), properties),
            _attributes(_own(device)),
            _commands(device),
        )
    )


def _pipeline(plugin: PipelinePlugin) -> str:
    device = processing_class(plugin)
    common = _own(Lima2Processing)
    own = {name: item for name, item in _own(device).items() if name not in common}
    parts = [f"{prose(plugin.params.__doc__)}\n"]
    if own:
        parts.append(_attributes(own))
    if plugin.sources or plugin.streams:
        parts.append(_commands(device))
    else:
        parts.append("No attributes and no commands of its own.\n")
    return "\n".join(parts)


def _attributes(attributes: Mapping[str, Any]) -> str:
    rows = []
    for name, item in attributes.items():
        declared = item._kwargs  # noqa: SLF001  PyTango tells it in no other way
        unit, doc = declared.get("unit", ""), declared.get("doc", "")
        writable = "READ_WRITE" in str(item.attr_write)
        kind = _attribute_type(item, declared)
        rows.append((code(name), kind, "rw" if writable else "r", unit, prose(doc)))
    return table(("attribute", "type", "access", "unit", "meaning"), rows)


def _attribute_type(item: Any, declared: Mapping[str, Any]) -> str:
    dtype = declared.get("dtype")
    if isinstance(dtype, type) and issubclass(dtype, enum.IntEnum):
        return f"DevEnum: {', '.join(member.name for member in dtype)}"
    spectrum = " spectrum" if "SPECTRUM" in str(item.attr_format) else ""
    return f"{item.attr_type}{spectrum}"


def _commands(device: Any) -> str:
    rows = []
    for name, (taken, given, _) in device.TangoClassClass.cmd_list.items():
        doc = getattr(device, name).__doc__ or ""
        if "TANGO command" in doc:  # made up by PyTango, where there is none
            doc = given[1]
        doc = prose(doc)
        rows.append((code(name), _argument(taken), _argument(given), doc))
    return table(("command", "argument", "result", "meaning"), rows)


def _argument(argument: Sequence[Any]) -> str:
    kind, doc = argument
    if kind == CmdArgType.DevVoid:
        return ""
    told = "" if "DevEncoded" in str(kind) else f": {prose(doc)}"
    return f"{kind}{told}"


def _errors() -> list[tuple[str, str, str]]:
    def below(error: type[Lima2Error]) -> Iterator[type[Lima2Error]]:
        yield error
        for child in error.__subclasses__():
            # Others are of the embedded surroundings.
            if child.__module__ == "lima2_core.errors":
                yield from below(child)

    return [
        (code(error.code), code(error.__name__), prose(error.__doc__))
        for error in below(Lima2Error)
        if error is not Lima2Error
    ]
