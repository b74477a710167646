"""What happens to a system, as an iterator: no callbacks, and it goes on where events do not."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from client import wire
from client.errors import ClientError, NotAvailableError, UnreachableError
from client.link import Device
from client.progress import Progress

POLL_S = 0.2
"""Time between two looks where there are no events."""
QUIET_S = 1.0
"""Where there are, a state is asked for when none came for so long: events may get lost."""
QUICK_S = 0.1
"""Progress is asked for no more often than this."""
UNREACHABLE = "unreachable"
"""The state of a system whose control device does not answer."""

_FIELDS = {wire.FRONT_STATE: "state", wire.RUN_PHASE: "phase", wire.CURRENT_RUN: "run"}
_WAKING = (*_FIELDS, wire.FRAMES_RECEIVED, wire.FRAMES_SAVED, wire.STATUS)


@dataclass(frozen=True, slots=True)
class Event:
    """The system after something has changed."""

    state: str = ""
    """idle, prepared, running, fault, foreign (busy for another client), terminate, unreachable."""
    phase: str = "none"
    """Where the current run is; none without one."""
    run: str = ""
    """Id of the current run."""
    progress: Progress = field(default_factory=Progress)
    """Of the current run."""
    status: str = ""
    """All in a sentence."""


class Watcher:
    """Follows one control device.

    Threads: by one at a time; Tango's threads only put into the queue.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._ends: list[Callable[[], None]] = []
        self._last = Event()

    def events(self, timeout_s: float | None = None) -> Iterator[Event]:
        """The system now, and after every change of state, phase or progress.

        Goes on while the server is away, and ends after ``timeout_s``.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            full_due_s = glance_due_s = 0.0
            while True:
                now_s = time.monotonic()
                if now_s >= full_due_s:
                    yield from self._changed(self._look())
                    self._subscribe()  # takes a while; tells at once what has changed since
                    full_due_s = time.monotonic() + (QUIET_S if self._ends else POLL_S)
                    glance_due_s = full_due_s
                elif now_s >= glance_due_s:
                    yield from self._changed(self._glance(self._last))
                    glance_due_s = full_due_s
                if until_s is not None and time.monotonic() >= until_s:
                    return
                due_s = min(full_due_s, glance_due_s, until_s or full_due_s)
                try:
                    name, value = self._inbox.get(timeout=max(0.0, due_s - time.monotonic()))
                except queue.Empty:
                    continue
                if value is None:
                    full_due_s = min(full_due_s, time.monotonic() + POLL_S)
                elif name in _FIELDS:
                    # A state is told as it came: what is read now may be two states further.
                    full_due_s = time.monotonic() + QUIET_S
                    told = _with(self._last, {_FIELDS[name]: str(value)})
                    yield from self._changed(self._glance(told))
                glance_due_s = min(glance_due_s, time.monotonic() + QUICK_S)
        finally:
            for end in self._ends:
                end()
            self._ends.clear()

    def _changed(self, event: Event) -> Iterator[Event]:
        if event != self._last:
            self._last = event
            yield event

    def _subscribe(self) -> None:
        """Have changes told; where that cannot be, they are looked for."""
        if self._ends:
            return
        try:
            for name in _WAKING:
                self._ends.append(self._device.follow(name, partial(self._put, name)))
        except ClientError:
            for end in self._ends:
                end()
            self._ends.clear()

    def _put(self, name: str, value: Any) -> None:
        self._inbox.put((name, value))

    def _look(self) -> Event:
        """The whole system."""
        try:
            read = {name: str(self._device.read(wired)) for wired, name in _FIELDS.items()}
        except UnreachableError as error:
            return replace(self._last, state=UNREACHABLE, status=error.message)
        return self._glance(_with(self._last, read))

    def _glance(self, event: Event) -> Event:
        """The same with the progress of now."""
        progress = Progress()
        try:
            status = str(self._device.read(wire.STATUS))
            if event.run:
                device = self._device.peer(wire.run_device(self._device.name, event.run))
                progress = Progress.from_json(device.read(wire.PROGRESS))
        except NotAvailableError:
            return replace(event, progress=progress)  # the run is gone
        except UnreachableError as error:
            return replace(event, state=UNREACHABLE, status=error.message)
        return replace(event, progress=progress, status=status)


def _with(event: Event, texts: Mapping[str, str]) -> Event:
    return replace(
        event,
        state=texts.get("state", event.state),
        phase=texts.get("phase", event.phase),
        run=texts.get("run", event.run),
    )
