"""An output of a run, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from lima2_core.system.outputs import RunOutput, RunView
from lima2_core.worker import Worker

log = logging.getLogger(__name__)

PERIOD_S = 0.1


class OutputThread:
    """Runs one output from `open` to `finish`; an error ends it and stays as its trouble.

    Threads: everything from any thread.
    """

    def __init__(self, output: RunOutput, run: RunView, on_done: Callable[[], None]) -> None:
        self.name = output.name
        self.output = output
        self.failure = ""
        """Why the output ended early; empty if it did not."""
        self._run = run
        self._on_done = on_done
        self._wake = threading.Event()
        self._finish = False
        self._abandoned = False
        self.done = threading.Event()
        """Set once everything is written, or has failed."""
        self._worker = Worker(f"output-{output.name}", self._work, self._escaped)

    @property
    def trouble(self) -> str:
        """What does not work, for people; empty if all is well."""
        text = self.failure or self.output.trouble
        return f"{self.name}: {text}" if text else ""

    def results(self) -> Sequence[str]:
        """What was made."""
        return self.output.results()

    def finish(self) -> None:
        """The run is finished: write all that is left."""
        self._finish = True
        self._wake.set()

    def abandon(self) -> None:
        """The run never was: write nothing."""
        self._abandoned = True
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False if ``timeout_s`` passed first."""
        return self._worker.join(timeout_s)

    def _work(self) -> None:
        self.output.open(self._run)
        while not self._wake.wait(PERIOD_S):
            self.output.update()
        if self._finish and not self._abandoned:
            self.output.finish()
        self._end()

    def _escaped(self, error: BaseException) -> None:
        log.warning("output %s of run %s failed", self.name, self._run.acq_id, exc_info=error)
        self.failure = f"{type(error).__name__}: {error}"
        self._end()

    def _end(self) -> None:
        self.done.set()
        self._on_done()
