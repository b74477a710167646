"""The outputs of a run, each on a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lima2_core.errors import ParamError
from lima2_core.system.outputs import RunOutput, RunView, Survivors
from lima2_core.worker import Worker

log = logging.getLogger(__name__)

PERIOD_S = 0.1
CHECK_S = 0.3
"""How long a prepare waits for what outputs have to say; a slow disk does not refuse a run."""
SURVIVORS_S = 0.5
"""How long an output may take to look into the files of a dead receiver."""


@dataclass(slots=True)
class _Question:
    """What an output knows of the files of one receiver."""

    source: str
    receiver: int
    answer: Survivors | None = None
    answered: threading.Event = field(default_factory=threading.Event)


class OutputThread:
    """Runs one output from `open` to `finish`; an error ends it and stays as its trouble.

    Threads: everything from any thread.
    """

    def __init__(self, output: RunOutput, run: RunView, on_done: Callable[[], None]) -> None:
        self.name = output.name
        self.output = output
        self.failure = ""
        """Why the output ended early; empty if it did not."""
        self.refusal: ParamError | None = None
        """Why there must be no such run; None if nothing speaks against it."""
        self.checked = threading.Event()
        """Set once it is known whether the run is refused."""
        self._run = run
        self._on_done = on_done
        self._todo: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
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
        self._todo.put(None)

    def abandon(self) -> None:
        """The run never was: write nothing."""
        self._abandoned = True
        self._todo.put(None)

    def survivors(self, source: str, receiver: int, timeout_s: float) -> Survivors | None:
        """What the output finds in the files of a dead receiver; None if it cannot tell."""
        question = _Question(source, receiver)
        self._todo.put(question)
        until_s = time.monotonic() + timeout_s
        while not question.answered.wait(min(PERIOD_S, max(0.0, until_s - time.monotonic()))):
            if self.done.is_set() or time.monotonic() >= until_s:
                return None
        return question.answer

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False if ``timeout_s`` passed first."""
        return self._worker.join(timeout_s)

    def _work(self) -> None:
        try:
            self.output.check(self._run)
        except ParamError as error:
            self.refusal = error
            raise
        self.checked.set()
        self.output.open(self._run)
        while True:
            try:
                question = self._todo.get(timeout=PERIOD_S)
            except queue.Empty:
                self.output.update()
                continue
            if question is None:
                break
            question.answer = self.output.survivors(question.source, question.receiver)
            question.answered.set()
        if self._finish and not self._abandoned:
            self.output.finish()
        self._end()

    def _escaped(self, error: BaseException) -> None:
        if error is self.refusal:
            self.failure = str(error)
        else:
            log.warning("output %s of run %s failed", self.name, self._run.acq_id, exc_info=error)
            self.failure = f"{type(error).__name__}: {error}"
        self._end()

    def _end(self) -> None:
        self.checked.set()
        self.done.set()
        on_done, self._on_done = self._on_done, lambda: None  # it leads to the run, and so to us
        on_done()


class Outputs:
    """All outputs of one run.

    Threads: everything from any thread.
    """

    def __init__(
        self, outputs: Sequence[RunOutput], run: RunView, on_done: Callable[[], None]
    ) -> None:
        self.threads = tuple(OutputThread(output, run, on_done) for output in outputs)

    @property
    def done(self) -> bool:
        """Whether everything is written, or has failed."""
        return all(thread.done.is_set() for thread in self.threads)

    def check(self) -> None:
        """Wait for what the outputs have to say against the run, but not for long.

        Raises:
            ParamError: one refuses it.
        """
        until_s = time.monotonic() + CHECK_S
        for thread in self.threads:
            thread.checked.wait(max(0.0, until_s - time.monotonic()))
            if thread.refusal is not None:
                raise thread.refusal

    def survivors(self, source: str, receiver: int) -> Survivors | None:
        """What is readable in the files of a dead receiver; None if nobody can tell."""
        for thread in self.threads:
            found = thread.survivors(source, receiver, SURVIVORS_S)
            if found is not None:
                return found
        return None

    def finish(self) -> None:
        """The run is finished: write all that is left."""
        for thread in self.threads:
            thread.finish()

    def abandon(self) -> None:
        """The run never was: write nothing."""
        for thread in self.threads:
            thread.abandon()

    def join(self, until_s: float) -> None:
        """Wait for the end of all, but not beyond the monotonic time ``until_s``."""
        for thread in self.threads:
            thread.join(max(0.0, until_s - time.monotonic()))
