"""The runs of a system that exist, and what is left of those that were forgotten."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from lima2_core.errors import NotAvailableError
from lima2_core.ids import AcqId
from lima2_core.state.system import ENDED
from lima2_core.system.output_thread import Outputs
from lima2_core.system.run import SystemRun

RUNS_KEPT = 3
_IDS_KEPT = 100


class Runs:
    """Runs by their ids, oldest first.

    Threads: `announce`, `add` and `forget` by one at a time, the rest from any.
    """

    def __init__(self) -> None:
        self._runs: dict[AcqId, SystemRun] = {}
        self._left: list[Outputs] = []
        """Outputs of forgotten runs that are still at work."""
        self._ours: deque[AcqId] = deque(maxlen=_IDS_KEPT)

    @property
    def all(self) -> tuple[SystemRun, ...]:
        return tuple(self._runs.copy().values())

    @property
    def ids(self) -> tuple[AcqId, ...]:
        return tuple(self._runs.copy())

    @property
    def living(self) -> Sequence[SystemRun]:
        """Those that have not ended."""
        return [run for run in self.all if run.phase not in ENDED]

    @property
    def surplus(self) -> Sequence[SystemRun]:
        """Those that have ended, without the newest, which are kept."""
        return [run for run in self.all if run.phase in ENDED][:-RUNS_KEPT]

    @property
    def outputs(self) -> tuple[Outputs, ...]:
        """Of all runs, also of forgotten ones."""
        return *(run.outputs for run in self.all), *self._left

    def find(self, acq_id: AcqId) -> SystemRun | None:
        return self._runs.get(acq_id)

    def get(self, acq_id: AcqId) -> SystemRun:
        """A run.

        Raises:
            NotAvailableError: no such run.
        """
        run = self.find(acq_id)
        if run is None:
            raise NotAvailableError(f"there is no run {acq_id!r}", acq_id=acq_id)
        return run

    def ended(self, acq_id: AcqId) -> SystemRun:
        """A run that has ended.

        Raises:
            NotAvailableError: no such run, or it has not ended.
        """
        run = self.get(acq_id)
        if run.phase not in ENDED:
            raise NotAvailableError(f"run {acq_id} has not ended; it is {run.phase.value}")
        return run

    def knows(self, acq_id: AcqId | None) -> bool:
        """Whether an acquisition was announced here, also if its run is forgotten by now."""
        return acq_id in self._ours

    def announce(self, acq_id: AcqId) -> None:
        """Note that an acquisition is about to be prepared, by us."""
        self._ours.append(acq_id)

    def add(self, run: SystemRun) -> None:
        self._runs[run.acq_id] = run

    def forget(self, run: SystemRun) -> None:
        """Keep nothing of a run but its outputs, until they are done."""
        del self._runs[run.acq_id]
        self._left = [one for one in self._left if not one.done]
        self._left.append(run.outputs)
