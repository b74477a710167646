"""Values in the tree of a schema: found and changed by path, checked on the way in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from client.errors import ParamError, UnknownParamError
from client.schema import CHOICE_KEY, Choice, Group, Leaf, Node, joined

_FILES_KEY = "filename_prefix"
"""A group with this member is about files."""


@dataclass(frozen=True, slots=True)
class Place:
    """A group in a tree, with its values."""

    node: Group
    values: dict[str, Any]
    path: str = ""
    choice: Choice | None = None
    """What the group was chosen of, if there are others."""

    def get(self, name: str) -> Any:
        """A member: a `Place`, or a value that cannot be changed."""
        node = self.node.member(name, self.path)
        where = joined(self.path, name)
        if name not in self.values:
            raise UnknownParamError("another group has taken this place", path=where)
        value = self.values[name]
        if isinstance(node, Leaf):
            return frozen(value)
        if isinstance(node, Choice):
            return Place(node.group(value, where), value, where, node)
        return Place(node, value, where)

    def at(self, path: str) -> Any:
        """A member of a member, by its path."""
        here: Any = self
        for name in path.split(".") if path else ():
            if not isinstance(here, Place):
                raise UnknownParamError("there is no such parameter", path=joined(self.path, path))
            here = here.get(name)
        return here

    def owner(self, path: str) -> tuple[Place, str]:
        """The group that a path ends in, and the name of the member there."""
        group, _, name = path.rpartition(".")
        here = self.at(group)
        if not isinstance(here, Place):
            raise UnknownParamError("there is no such parameter", path=joined(self.path, path))
        here.node.member(name, here.path)
        return here, name

    def set(self, name: str, value: Any) -> None:
        """Check a value and put it in place; of a group, all that is not given has its default.

        Raises:
            ParamError: it is refused.
        """
        self.get(name)
        node: Node = self.node.member(name, self.path)
        checked = node.check(thawed(value), joined(self.path, name))
        if name == CHOICE_KEY and self.choice is not None:
            self._choose(str(checked))
        elif isinstance(node, Leaf):
            self.values[name] = checked
        else:
            replace(self.values[name], checked)

    def merge(self, values: Mapping[str, Any]) -> None:
        """Set what is given, by name or path, and leave the rest."""
        here = self
        # Which group it is comes before the members of this group.
        for path in sorted(values, key=lambda path: not _chooses(path, values[path])):
            owner, name = here.owner(path)
            found = owner.get(name)
            if isinstance(found, Place) and isinstance(values[path], Mapping):
                found.merge(values[path])
            else:
                owner.set(name, values[path])
                here = here._renewed()

    def parse(self, path: str, text: str) -> None:
        """Set a member to what a text stands for."""
        owner, name = self.owner(path)
        node, where = owner.node.member(name, owner.path), joined(self.path, path)
        if isinstance(node, Leaf):
            owner.set(name, node.parse(text, where))
            return
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ParamError(f"a group is a JSON object: {error}", path=where) from None
        owner.set(name, value)

    def reset(self) -> None:
        """Give everything its default; which group it is, of a choice, stays."""
        for name, node in self.node.members.items():
            if not isinstance(node, Leaf):
                self.get(name).reset()
            elif self.choice is None or name != CHOICE_KEY:
                self.values[name] = node.default

    def changed(self) -> Iterator[str]:
        """Paths of all values that are not the defaults; of a choice, those of its group."""
        for name, node in self.node.members.items():
            if not isinstance(node, Leaf):
                yield from self.get(name).changed()
                continue
            # Each group has its own name there as the default.
            whole = self.choice.default if self.choice is not None else {}
            default = whole[name] if name == CHOICE_KEY and whole else node.default
            if self.values[name] != default:
                yield joined(self.path, name)

    def leaves(self) -> Iterator[tuple[str, Leaf, Any]]:
        """Path, node and value of everything in it."""
        for name, node in self.node.members.items():
            if isinstance(node, Leaf):
                yield joined(self.path, name), node, self.values[name]
            else:
                yield from self.get(name).leaves()

    def _renewed(self) -> Place:
        """The same place as what stands there now, which may be another group."""
        if self.choice is None:
            return self
        return Place(self.choice.group(self.values, self.path), self.values, self.path, self.choice)

    def _choose(self, class_name: str) -> None:
        """Put another group in place, with its defaults; where files go stays."""
        if self.choice is None or class_name == self.values[CHOICE_KEY]:
            return
        group = self.choice.group({CHOICE_KEY: class_name}, self.path)
        new, old = group.default, dict(self.values)
        source, target = _about_files(old), _about_files(new)
        new[target] = {**new[target], **{k: v for k, v in old[source].items() if k in new[target]}}
        replace(self.values, group.check({k: v for k, v in new.items() if k}, self.path))


def _chooses(path: str, value: Any) -> bool:
    """Whether a value says which group stands at a place."""
    if isinstance(value, Mapping):
        return any(_chooses(str(name), member) for name, member in value.items())
    return path.rpartition(".")[2] == CHOICE_KEY


def _about_files(values: dict[str, Any]) -> str:
    """The first group about files; an empty one without a name, if there is none."""
    for name, value in values.items():
        if isinstance(value, dict) and _FILES_KEY in value:
            return name
    values[""] = {}
    return ""


def replace(values: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Give a group other values; whoever holds a group within it sees them."""
    for name in [name for name in values if name not in new]:
        del values[name]
    for name, value in new.items():
        old = values.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            replace(old, value)
        else:
            values[name] = value


def frozen(value: Any) -> Any:
    """A value that cannot be changed where that would have no effect."""
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    if isinstance(value, dict):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    return value


def thawed(value: Any) -> Any:
    """The same as JSON has it."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [thawed(item) for item in value]
    return value
