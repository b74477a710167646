"""Every run as a blissdata scan in Redis: frames, results and ledger, live and afterwards.

Whatever Redis does, the run does not wait for it: this output gathers what is new, and a thread
of its own, which outlives the run if need be, publishes it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from lima2_core.errors import ParamError, PluginError
from lima2_core.system.outputs import OutputPlugin, RunOutput, RunView
from processing.outputs.blissdata_feed import RunFeed
from processing.outputs.blissdata_info import plan_of
from processing.outputs.blissdata_publisher import Publisher, publisher_of

FINISH_S = 3.0
"""How long the end of a run may be held up until everything of it is in its scan."""

SETTINGS = {
    "redis_url": "Redis of blissdata, such as redis://host:6379; empty: nothing is published.",
    "scan_expiry_s": "Seconds after which a scan is forgotten; a week unless given, 60 at least.",
    "scan_session": "Session of the scans, in which their numbers are unique; lima2 unless given.",
    "scan_name": "Name of the scans; acquisition unless given.",
    "data_policy": "Data policy in the identity of the scans; None unless given.",
    "redis_buffer_mib": "MiB for results of all runs while Redis is away; 64 unless given.",
}
_SHORTEST_EXPIRY_S = 60  # blissdata takes a scan with 10 s left for deleted
_EXPIRY_S = 7 * 86400
_BUFFER_MIB = 64
_LOOK_S = 0.05


class BlissdataOutput(RunOutput):
    """Publishes one run."""

    name = "blissdata"

    def __init__(self, publisher: Publisher, settings: Mapping[str, str]) -> None:
        self._publisher = publisher
        self._settings = settings
        self._feed: RunFeed | None = None
        self._device = ""

    def open(self, run: RunView) -> None:
        plan = plan_of(run, self._settings)
        self._device = next((image.server for image in plan.images if image.server), "")
        self._feed = RunFeed(run, plan)
        self._publisher.add(self._feed)

    def update(self) -> None:
        if self._feed is not None:
            self._feed.gather()
            self._feed.look_at_files()
            self._publisher.trim()

    def finish(self) -> None:
        feed = self._feed
        if feed is None:
            return
        until_s = time.monotonic() + FINISH_S
        feed.end()
        if not feed.started_wall_s:
            self._publisher.discard(feed)
            return
        self._publisher.hurry()
        # A Redis that is away now will hardly be back in time.
        while time.monotonic() < until_s and not self._publisher.trouble:
            feed.look_at_files()
            if feed.told.wait(_LOOK_S):
                break

    def results(self) -> Sequence[str]:
        """Keys of the scans."""
        return (self._feed.key,) if self._feed is not None and self._feed.key else ()

    @property
    def trouble(self) -> str:
        feed = self._feed
        if feed is None:
            return ""
        if feed.failure:
            return f"the run is not published: {feed.failure}"
        if feed.closed.is_set() or not self._publisher.trouble:
            return ""
        return f"{self._publisher.trouble}; the run is published when it is back"

    def end_live_frames(self) -> None:
        """The device of the run will be gone: readers shall look for its frames in files only."""
        if self._device:
            self._publisher.end_live_frames(self._device)


def make(settings: Mapping[str, str]) -> RunOutput | None:
    """The output of one run.

    The first call loads blissdata in the background, which takes a second or so: a server that
    makes one output at its start, and forgets it, spares its first run the wait.

    Raises:
        ParamError: a setting is wrong.
        PluginError: blissdata is not installed.
    """
    url = settings.get("redis_url", "")
    if not url:
        return None
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ParamError("must begin with redis://, rediss:// or unix://", path="redis_url")
    if find_spec("blissdata") is None:
        raise PluginError("redis_url is set: this needs `pip install lima2-suite[blissdata]`")
    expiry_s = _whole(settings, "scan_expiry_s", _EXPIRY_S, _SHORTEST_EXPIRY_S)
    buffer_mib = _whole(settings, "redis_buffer_mib", _BUFFER_MIB, 1)
    publisher = publisher_of(url, buffer_mib * 2**20, expiry_s)
    publisher.warm_up()
    return BlissdataOutput(publisher, settings)


def _whole(settings: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = settings.get(name, "")
    try:
        value = int(text) if text else default
    except ValueError:
        value = least - 1
    if value < least:
        raise ParamError(f"{text!r} is no whole number from {least} on", path=name)
    return value


PLUGIN = OutputPlugin("blissdata", make, SETTINGS)
