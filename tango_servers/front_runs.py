"""The runs of the whole system that exist, each with its Tango device."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator

import tango

from lima2_core.errors import NotAvailableError
from lima2_core.ids import AcqId
from tango_servers.front_run import FrontRun
from tango_servers.names import RUN_CLASS, run_device
from tango_servers.process import PROCESS


class FrontRuns:
    """Makes and deletes the devices.

    Threads: `add`, `remove` and `keep` by one at a time, in a command of a device; the rest from
    any.
    """

    def __init__(self, control: str) -> None:
        self._control = control
        self._runs: dict[AcqId, FrontRun] = {}
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
        """Make a device for a run that is about to be prepared."""
        run = FrontRun(acq_id, run_device(self._control, acq_id))
        PROCESS.system_runs[run.device.lower()] = run
        with PROCESS.devices_lock:
            tango.Util.instance().create_device(RUN_CLASS, run.device)
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
        PROCESS.system_runs.pop(run.device.lower(), None)
        # At the end of the process Tango may have deleted it before.
        with contextlib.suppress(tango.DevFailed), PROCESS.devices_lock:
            tango.Util.instance().delete_device(RUN_CLASS, run.device)

    def keep(self, acq_ids: Iterable[AcqId]) -> None:
        """Forget all others."""
        kept = set(acq_ids)
        for run in self:
            if run.acq_id not in kept:
                self.remove(run.acq_id)
