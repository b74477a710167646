"""The schema of a server as nodes that know their values: groups, choices of groups, and leaves.

Rules that span several parameters stay with the server: it says so when it prepares.
"""

from __future__ import annotations

import json
import math
import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np

from client.errors import DecodeError, ParamError, UnknownParamError

CHOICE_KEY = "class_name"
"""The member whose value says which of several groups stands at a place."""

_LIMITS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("minimum", ">=", operator.ge),
    ("exclusiveMinimum", ">", operator.gt),
    ("maximum", "<=", operator.le),
    ("exclusiveMaximum", "<", operator.lt),
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value, or a list of values."""

    schema: Mapping[str, Any]

    @property
    def unit(self) -> str:
        return str(self.schema.get("unit", ""))

    @property
    def description(self) -> str:
        return " ".join(str(self.schema.get("description", "")).split())

    @property
    def default(self) -> Any:
        """A fresh copy."""
        return json.loads(json.dumps(self.schema.get("default")))

    @property
    def limits(self) -> str:
        """What is allowed, for people; empty if everything of the type is."""
        if "enum" in self.schema:
            return "one of " + ", ".join(map(str, self.schema["enum"]))
        found = [f"{sign} {self.schema[key]}" for key, sign, _ in _LIMITS if key in self.schema]
        return " and ".join(found)

    @property
    def text(self) -> str:
        """All that is known of it, in a line."""
        kind = str(self.schema.get("type", "value"))
        facts = [kind if not self.unit else f"{kind} in {self.unit}", self.limits]
        facts.append(f"default {json.dumps(self.schema.get('default'))}")
        described = f"{self.description} " if self.description else ""
        return f"{described}({', '.join(fact for fact in facts if fact)})"

    def check(self, value: Any, path: str) -> Any:
        """The value as JSON has it.

        Raises:
            ParamError: it is refused.
        """
        return _checked(self.schema, value, path)

    def parse(self, text: str, path: str) -> Any:
        """The value that a text stands for, as on a command line.

        Raises:
            ParamError: it is refused.
        """
        if self.schema.get("type") == "string":
            return self.check(text, path)
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        return self.check(value, path)


@dataclass(frozen=True, slots=True)
class Group:
    """Named members."""

    description: str
    members: Mapping[str, Node] = field(default_factory=dict)

    @property
    def default(self) -> dict[str, Any]:
        return {name: member.default for name, member in self.members.items()}

    def check(self, value: Any, path: str) -> dict[str, Any]:
        """The values of all members; of those that are not given, the defaults.

        Raises:
            ParamError: a value is refused.
        """
        given = _mapping(value, path)
        for name in given:
            self.member(name, path)
        return {
            name: member.check(given[name], joined(path, name)) if name in given else member.default
            for name, member in self.members.items()
        }

    def member(self, name: str, path: str) -> Node:
        """A member by its name.

        Raises:
            UnknownParamError: there is none; the message lists those there are.
        """
        found = self.members.get(name)
        if found is None:
            raise unknown(name, list(self.members), path)
        return found


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several groups, as its member `CHOICE_KEY` says."""

    description: str
    groups: Mapping[str, Group]

    @property
    def default(self) -> dict[str, Any]:
        return self.group({}, "").default

    def group(self, value: Mapping[str, Any], path: str) -> Group:
        """The group that ``value`` belongs to; the first, if it does not say.

        Raises:
            ParamError: there is no such group.
        """
        name = value.get(CHOICE_KEY, next(iter(self.groups)))
        found = self.groups.get(name) if isinstance(name, str) else None
        if found is None:
            known = ", ".join(self.groups)
            raise ParamError(
                f"there is no {name!r}; there are: {known}", path=joined(path, CHOICE_KEY)
            )
        return found

    def check(self, value: Any, path: str) -> dict[str, Any]:
        """As `Group.check`."""
        given = _mapping(value, path)
        return self.group(given, path).check(given, path)


Node: TypeAlias = Group | Choice | Leaf


def read_schema(text: str) -> Group:
    """The nodes of a schema.

    Raises:
        DecodeError: it is no schema of a group.
    """
    try:
        node = _node(json.loads(text))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DecodeError(f"The schema of the parameters cannot be read: {error}") from error
    if not isinstance(node, Group):
        raise DecodeError("The schema of the parameters describes no group")
    return node


def joined(path: str, name: str) -> str:
    """Path of a member."""
    return f"{path}.{name}" if path else name


def unknown(name: str, known: Sequence[str], path: str) -> UnknownParamError:
    """The error about a name that is not known."""
    near = get_close_matches(name, known, 1)
    hint = f", did you mean {near[0]}?" if near else ";"
    return UnknownParamError(
        f"there is no such parameter{hint} known here: {', '.join(known) or 'none'}",
        path=joined(path, name),
    )


def _node(schema: Mapping[str, Any]) -> Node:
    description = " ".join(str(schema.get("description", "")).split())
    if "properties" in schema:
        members = {name: _node(child) for name, child in schema["properties"].items()}
        return Group(description, members)
    groups = [_node(choice) for choice in schema.get("anyOf", ()) if "properties" in choice]
    if groups and len(groups) == len(schema["anyOf"]):
        named = {
            str(group.members[CHOICE_KEY].default): group
            for group in groups
            if isinstance(group, Group) and CHOICE_KEY in group.members
        }
        if len(named) == len(groups):
            return Choice(description, named)
    return Leaf(schema)


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ParamError(f"expected a group of parameters, not {value!r}", path=path)
    return value


# Values of leaves


def _checked(schema: Mapping[str, Any], value: Any, path: str) -> Any:
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return _any_of(schema[key], value, path)
    kind = schema.get("type")
    if isinstance(kind, str) and kind in _KINDS:
        value = _KINDS[kind](schema, value, path)
    else:
        value = _json(value, path)
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(map(str, schema["enum"]))
        raise ParamError(f"must be one of {allowed}, not {value!r}", path=path)
    return value


def _any_of(choices: Sequence[Mapping[str, Any]], value: Any, path: str) -> Any:
    refusals = []
    for choice in choices:
        try:
            return _checked(choice, value, path)
        except ParamError as error:
            refusals.append(error)
    # Of several reasons, the one of the choice that looks most like the value is of use.
    raise next((one for one in refusals if one.path != path), refusals[0])


def _integer(schema: Mapping[str, Any], value: Any, path: str) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ParamError(f"must be a whole number, not {value!r}", path=path) from None
    return int(_within(schema, number, path))


def _number(schema: Mapping[str, Any], value: Any, path: str) -> float | int:
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        number = value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        raise ParamError(f"must be a number, not {value!r}", path=path) from None
    if not math.isfinite(number):
        raise ParamError(f"must be a finite number, not {value!r}", path=path)
    checked: float | int = _within(schema, number, path)
    return checked


def _within(schema: Mapping[str, Any], number: Any, path: str) -> Any:
    for key, sign, fits in _LIMITS:
        if key in schema and not fits(number, schema[key]):
            unit = f" {schema['unit']}" if schema.get("unit") else ""
            raise ParamError(f"must be {sign} {schema[key]}{unit}, not {number}", path=path)
    step = schema.get("multipleOf")
    if step and number % step:
        raise ParamError(f"must be a multiple of {step}, not {number}", path=path)
    return number


def _boolean(schema: Mapping[str, Any], value: Any, path: str) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ParamError(f"must be True or False, not {value!r}", path=path)
    return bool(value)


def _string(schema: Mapping[str, Any], value: Any, path: str) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise ParamError(f"must be a text, not {value!r}", path=path)
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        raise ParamError(f"{value!r} is too short or too long", path=path)
    if "pattern" in schema and not re.search(schema["pattern"], value):
        raise ParamError(f"{value!r} does not look like {schema['pattern']}", path=path)
    return value


def _array(schema: Mapping[str, Any], value: Any, path: str) -> list[Any]:
    listed = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(listed, str | bytes | Mapping) or not isinstance(listed, Sequence):
        raise ParamError(f"must be a list, not {value!r}", path=path)
    if not schema.get("minItems", 0) <= len(listed) <= schema.get("maxItems", len(listed)):
        raise ParamError(f"{len(listed)} entries are too few or too many", path=path)
    first = schema.get("prefixItems", ())
    kinds = [*first, *[schema.get("items", {})] * (len(listed) - len(first))]
    return [
        _checked(kind, item, joined(path, str(n)))
        for n, (kind, item) in enumerate(zip(kinds, listed, strict=False))
    ]


def _object(schema: Mapping[str, Any], value: Any, path: str) -> dict[str, Any]:
    if "properties" in schema:
        node = _node(schema)
        return dict(node.check(value, path))
    tree = _json(dict(_mapping(value, path)), path)
    return dict(tree)


def _null(schema: Mapping[str, Any], value: Any, path: str) -> None:
    if value is not None:
        raise ParamError(f"must be None, not {value!r}", path=path)


def _json(value: Any, path: str) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ParamError(f"must be what JSON can hold: {error}", path=path) from None


_KINDS: Mapping[str, Callable[[Mapping[str, Any], Any, str], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": _string,
    "array": _array,
    "object": _object,
    "null": _null,
}
