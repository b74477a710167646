"""Parameters as objects: every group has a class of its own, made from the schema of the server.

::

    lima.params.acquisition.acq.nb_frames = 100
    lima.params["processing.saving.enabled"] = True
    help(lima.params.acquisition.acq)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Self

from client.errors import DecodeError, ParamError, UnknownParamError
from client.schema import Group, Leaf, Node, read_schema
from client.tree import Place, replace, thawed


class Parameters:
    """A group of parameters; its members are attributes, with units and ranges in `help`.

    What is assigned is checked at once: unknown names and values out of range are refused. Lists
    are read as tuples; to change one, assign another.
    """

    __slots__ = ("_classes", "_place")

    _place: Place
    _classes: dict[int, type[Parameters]]

    def __init__(self, place: Place, classes: dict[int, type[Parameters]]) -> None:
        object.__setattr__(self, "_place", place)
        object.__setattr__(self, "_classes", classes)

    def __getattr__(self, name: str) -> Any:
        # Only asked for what is no member, or is one no more.
        self._place.get(name)
        raise UnknownParamError("there is no such parameter", path=name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._place.set(name, _plain(value))

    def __getitem__(self, path: str) -> Any:
        return self._seen(self._place.at(path))

    def __setitem__(self, path: str, value: Any) -> None:
        owner, name = self._place.owner(path)
        owner.set(name, _plain(value))

    def __iter__(self) -> Iterator[str]:
        return iter(self._place.node.members)

    def __contains__(self, path: object) -> bool:
        try:
            self._place.at(str(path))
        except UnknownParamError:
            return False
        return True

    def __dir__(self) -> list[str]:
        public = (name for name in dir(type(self)) if not name.startswith("_"))
        return sorted({*self._place.node.members, *public})

    def to_dict(self) -> dict[str, Any]:
        """All values; a copy."""
        return dict(json.loads(self.to_json()))

    def to_json(self, indent: int | None = None) -> str:
        """All values as a JSON text."""
        return json.dumps(self._place.values, indent=indent)

    def update(self, values: Mapping[str, Any]) -> None:
        """Change what is given and leave the rest; if anything is refused, nothing is changed.

        Args:
            values: names or paths, with values or with mappings like this one.

        Raises:
            ParamError: a value is refused; the path says which.
        """
        here = self._place
        draft = Place(here.node, self.to_dict(), here.path, here.choice)
        draft.merge({name: _plain(value) for name, value in values.items()})
        replace(here.values, draft.values)

    def load(self, text: str) -> None:
        """As `update`, with a JSON text such as `to_json` gives.

        Raises:
            ParamError: it is no JSON object, or a value is refused.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ParamError(f"this is no JSON text: {error}") from error
        if not isinstance(values, dict):
            raise ParamError("a JSON object is wanted")
        self.update(values)

    def plain(self, path: str) -> Any:
        """A value as JSON has it: lists and dicts instead of tuples and read-only mappings."""
        found = self[path]
        return found.to_dict() if isinstance(found, Parameters) else thawed(found)

    def reset(self) -> None:
        """Give everything its default; which pipeline it is stays."""
        self._place.reset()

    def changed(self) -> tuple[str, ...]:
        """Paths of all that is not the default; of another pipeline, its name and the same."""
        return tuple(self._place.changed())

    def parse(self, path: str, text: str) -> None:
        """Set a parameter to what a text stands for, as on a command line.

        Raises:
            ParamError: it is refused.
        """
        self._place.parse(path, text)

    def node(self, path: str) -> Node:
        """What is known of a parameter: description, unit, limits, default.

        Raises:
            UnknownParamError: there is no such parameter.
        """
        owner, name = self._place.owner(path)
        return owner.node.member(name, owner.path)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Parameters):
            other = other.to_dict()
        return bool(self._place.values == other)

    __hash__ = None  # type: ignore[assignment]  # its values change

    def __repr__(self) -> str:
        return "\n".join(_line(*leaf) for leaf in self._place.leaves())

    def _seen(self, value: Any) -> Any:
        """What a user gets for a value."""
        if not isinstance(value, Place):
            return value
        key = id(value.node)
        if key not in self._classes:
            name = value.path.rpartition(".")[2]
            self._classes[key] = _class_of(value.node, name.title().replace("_", ""), Parameters)
        return self._classes[key](value, self._classes)


class Params(Parameters):
    """The parameters of acquisitions of a system."""

    __slots__ = ()

    @classmethod
    def of_schema(cls, text: str, values: str = "") -> Self:
        """An object for a schema, with values as JSON text, else the defaults.

        Raises:
            DecodeError: the schema or the values cannot be read.
            ParamError: a value is refused.
        """
        node = read_schema(text)
        try:
            tree = node.check(json.loads(values), "") if values else node.default
        except json.JSONDecodeError as error:
            raise DecodeError(f"The parameters are no JSON text: {error}") from error
        made: type[Self] = _class_of(node, "Params", cls)
        return made(Place(node, tree), {})

    def copy(self) -> Self:
        """Another one with the same values."""
        return type(self)(Place(self._place.node, self.to_dict()), self._classes)


def _class_of(node: Group, name: str, base: type[Any]) -> type[Any]:
    """The class of a group; a member named like a method is reached by its path only."""
    members = {
        key: property(partial(_get, key), partial(_set, key), doc=_doc(child))
        for key, child in node.members.items()
        if not hasattr(base, key)
    }
    listed = "\n".join(f"    {key}: {_doc(child)}" for key, child in node.members.items())
    doc = f"{node.description or 'Parameters.'}\n\n{listed}\n"
    return type(name, (base,), {"__slots__": (), "__doc__": doc, **members})


def _get(name: str, group: Parameters) -> Any:
    return group[name]


def _set(name: str, group: Parameters, value: Any) -> None:
    group[name] = value


def _doc(node: Node) -> str:
    return node.text if isinstance(node, Leaf) else node.description


def _line(path: str, leaf: Leaf, value: Any) -> str:
    unit = f" {leaf.unit}" if leaf.unit else ""
    limits = f"[{leaf.limits}]" if leaf.limits else ""
    note = " ".join(part for part in (leaf.description, limits) if part)
    return f"{path} = {json.dumps(value)}{unit}" + (f"  # {note}" if note else "")


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, Parameters) else value
