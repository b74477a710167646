"""Attributes that are leaves of the parameters of the whole system, and how they are written.

What is written is checked as part of all parameters, and against what the detector can do as far
as it can be judged by itself (`tango_servers.front_limits`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from tango import AttrWriteType
from tango.server import attribute

from lima2_core.errors import ParamError
from lima2_core.schema import json_tree
from lima2_core.service.control import ControlService
from tango_servers.base import LimaDevice, text_of, wire_text
from tango_servers.errors import as_dev_failed
from tango_servers.formats import SECONDS
from tango_servers.front_limits import check_limits
from tango_servers.front_params import FrontParams
from tango_servers.front_system import FrontSystem

_US = 1e6

Path: TypeAlias = Callable[[FrontParams], str]
"""Where a parameter is in the parameters; empty for all of them."""
Change: TypeAlias = Callable[[FrontParams, str], FrontParams]
"""From the present parameters, and the path, to others."""


class ParamsDevice(LimaDevice):
    """A device with the parameters of the next acquisition of the whole system."""

    service: ControlService
    system: FrontSystem

    def ask(self, name: str, path: Path, change: Change) -> None:
        """Take other parameters, if they will do.

        Args:
            name: of the attribute that is written.
            path: of the parameter it stands for.
            change: what is written.

        Raises:
            ParamError: refused; names attribute and parameter.
        """
        where = ""
        try:
            where = path(self.system.params)
            params = change(self.system.params, where)
            check_limits(params.acquisition, where, self.service)
        except ParamError as error:
            details = {key: value for key, value in error.details.items() if key != "path"}
            sentence = error.message.removeprefix(f"{error.path}: ")
            raise ParamError(
                f"{name} is refused: {sentence}",
                path=error.path or where,
                attribute=name,
                **details,
            ) from error
        self.system.params = params


def _same(value: Any) -> Any:
    return value


def everyday(
    path: str,
    dtype: Any,
    label: str,
    doc: str,
    *,
    shown: Callable[[Any], Any] = _same,
    taken: Callable[[Any], Any] = _same,
    **details: Any,
) -> attribute:
    """An attribute that is a leaf of the parameters.

    Args:
        path: of the leaf; one that begins with a dot is in the group about files.
        dtype: Tango type.
        label: for people.
        doc: for people; the path is added.
        shown: from the value of the leaf to that of the attribute.
        taken: the way back.
        details: more of what Tango tells, such as ``unit`` and ``min_value``.
    """

    def full(params: FrontParams) -> str:
        return params.saving_path + path if path.startswith(".") else path

    @as_dev_failed
    def read(self: ParamsDevice) -> Any:
        params = self.system.params
        return shown(params.at(full(params)))

    @as_dev_failed
    def write(self: ParamsDevice, value: Any) -> None:
        def change(params: FrontParams, where: str) -> FrontParams:
            return params.changed({where: taken(value)})

        self.ask(made.attr_name, full, change)

    place = f"{path[1:]} of the group about files" if path.startswith(".") else path
    made = attribute(
        dtype=dtype,
        access=AttrWriteType.READ_WRITE,
        label=label,
        doc=f"{doc}. In front_params: {place}",
        memorized=False,
        fget=read,
        fset=write,
        **details,
    )
    return made


def seconds(path: str, label: str, doc: str, **details: Any) -> attribute:
    """An everyday attribute in seconds; the leaf is in whole microseconds."""
    return everyday(
        path,
        "DevDouble",
        label,
        doc,
        shown=lambda us: us / _US,
        taken=lambda s: round(s * _US),
        unit="s",
        standard_unit="1",
        display_unit="s",
        format=SECONDS,
        **details,
    )


def text(path: str, label: str, doc: str, taken: Callable[[str], str] = _same) -> attribute:
    """An everyday attribute that is a text; ``taken`` may refuse it."""
    return everyday(
        path, str, label, doc, shown=wire_text, taken=lambda value: taken(text_of(value))
    )


def json_group(path: str, label: str, doc: str) -> attribute:
    """An everyday attribute that is a JSON object."""
    return everyday(
        path, str, label, doc, shown=json.dumps, taken=lambda value: json_tree(text_of(value))
    )


def point(values: Any, length: int, first: int) -> dict[str, int]:
    """Two of ``length`` numbers as a position, or a size.

    Raises:
        ParamError: there are more or less.
    """
    if len(values) != length:
        raise ParamError(f"{length} numbers are wanted, not {len(values)}", path="")
    return {"x": int(values[first]), "y": int(values[first + 1])}
