"""The outputs of runs, made of the plugins that are installed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from lima2_core.errors import Lima2Error
from lima2_core.system.outputs import OutputPlugin, RunOutput

log = logging.getLogger(__name__)


class OutputMaker:
    """Makes the outputs of one run after the other.

    Threads: calls by one at a time.
    """

    def __init__(self, plugins: Sequence[OutputPlugin], settings: Mapping[str, str]) -> None:
        self.failures: Mapping[str, str] = {}
        """Why outputs are missing in the last run, by the name of their plugin."""
        self._plugins = tuple(plugins)
        self._settings = dict(settings)

    def __call__(self) -> Sequence[RunOutput]:
        """Those of a run; one that cannot be made is told, and keeps no run from its work."""
        made = []
        failures = {}
        for plugin in self._plugins:
            try:
                output = plugin.make(self._settings)
            except Lima2Error as error:
                log.warning("there will be no output %s: %s", plugin.name, error)
                failures[plugin.name] = str(error)
                continue
            if output is not None:
                made.append(output)
        self.failures = failures
        return made
