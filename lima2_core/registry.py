"""Find plugins by entry point, load them when needed, keep the reason when that fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lima2_core.errors import PluginError

CAMERAS = "lima2.cameras"
PIPELINES = "lima2.pipelines"
OUTPUTS = "lima2.outputs"
TRANSPORTS = "lima2.transports"
COMMANDS = "lima2.commands"
GROUPS = (CAMERAS, PIPELINES, OUTPUTS, TRANSPORTS, COMMANDS)


@dataclass(frozen=True, slots=True)
class PluginEntry:
    """One installed plugin, loaded or not."""

    group: str
    name: str
    target: str
    distribution: str
    failure: str = ""
    """Why it does not load; empty if it does."""


@cache
def installed(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, sorted by name, as they were when first asked for.

    To look for them takes milliseconds, and clients write parameters again and again. Who installs
    a package into a process that runs calls ``installed.cache_clear()``.
    """
    return tuple(sorted(entry_points(group=group), key=lambda entry: entry.name))


def names(group: str) -> tuple[str, ...]:
    """Names of the plugins of a group, sorted; nothing is loaded."""
    return tuple(dict.fromkeys(entry.name for entry in installed(group)))


def load(group: str, name: str) -> Any:
    """Load one plugin.

    Raises:
        PluginError: not installed, or it does not load; the message carries the reason.
    """
    found = [entry for entry in installed(group) if entry.name == name]
    if not found:
        known = ", ".join(names(group)) or "none"
        raise PluginError(
            f"no plugin {name!r} in the group {group}; installed: {known}", group=group, name=name
        )
    plugin, failure = _try_load(found[0])
    if failure:
        raise PluginError(
            f"the plugin {name!r} ({found[0].value}) does not load: {failure}",
            group=group,
            name=name,
        )
    return plugin


def survey(group: str) -> Iterator[PluginEntry]:
    """Load every plugin of a group and tell what came of it."""
    for entry in installed(group):
        _, failure = _try_load(entry)
        distribution = entry.dist.name if entry.dist is not None else "?"
        yield PluginEntry(group, entry.name, entry.value, distribution, failure)


def _try_load(entry: EntryPoint) -> tuple[Any, str]:
    try:
        return entry.load(), ""
    except Exception as error:  # noqa: BLE001  foreign code may fail in any way; it is reported
        return None, f"{type(error).__name__}: {error}"
