"""The runs of the whole system that exist, each with its Tango device."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator

import tango

from lima2_core.errors import BusyError, NotAvailableError
from lima2_core.ids import AcqId
from tango_servers.devices import delete_device, forget_peers, make_device
from tango_servers.front_run import FrontRun
from tango_servers.names import RUN_CLASS, run_device
from tango_servers.process import PROCESS

_PATIENCE_S = 0.5
"""A command waits no longer for the devices of others to be made."""


class FrontRuns:
    """Makes and deletes the devices.

    Threads: `add`, `remove` and `keep` by one at a time, in a command of a device; the rest from
    any.
    """

    def __init__(self, control: str) -> None:
        self._control = control
        self._runs: dict[AcqId, FrontRun] = {}
        self._left: list[str] = []
        """Devices that could not be deleted at the time."""
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[FrontRun]:
        """All, oldest first."""
        with self._lock:
            return iter(tuple(self._runs.values()))

    def get(self, acq_id: AcqId) -> FrontRun:
        """A run by its id.

        Raises:
            NotAvailableError: no such run.
        """
        run = self._runs.get(acq_id)
        if run is None:
            raise NotAvailableError(f"there is no run {acq_id!r}", acq_id=acq_id)
        return run

    def add(self, acq_id: AcqId) -> FrontRun:
        """Make a device for a run that is about to be prepared.

        Raises:
            BusyError: devices cannot be made at present.
        """
        run = FrontRun(acq_id, run_device(self._control, acq_id))
        if not PROCESS.devices_lock.acquire(timeout=_PATIENCE_S):
            raise BusyError("the server waits for a process that does not answer; try again")
        try:
            PROCESS.system_runs[run.device.lower()] = run
            make_device(RUN_CLASS, run.device)
        finally:
            PROCESS.devices_lock.release()
        with self._lock:
            self._runs[acq_id] = run
        return run

    def remove(self, acq_id: AcqId) -> None:
        """Forget a run and delete its device."""
        with self._lock:
            run = self._runs.pop(acq_id, None)
        if run is None:
            return
        run.close()
        self._left.append(run.device)
        if not PROCESS.devices_lock.acquire(timeout=_PATIENCE_S):
            return
        try:
            for device in self._left:
                PROCESS.system_runs.pop(device.lower(), None)
                # At the end of the process Tango may have deleted it before.
                with contextlib.suppress(tango.DevFailed):
                    delete_device(device)
            self._left.clear()
            forget_peers()
        finally:
            PROCESS.devices_lock.release()

    def keep(self, acq_ids: Iterable[AcqId]) -> None:
        """Forget all others."""
        kept = set(acq_ids)
        for run in self:
            if run.acq_id not in kept:
                self.remove(run.acq_id)
