"""Stand-ins for the parts of a system: they tell what the test wants, misbehave when it wants.

::

    control, receivers = ScriptedControl(), [ScriptedReceiver(f"r{n}") for n in range(2)]
    coordinator = Coordinator(control, receivers)
    run = coordinator.prepare(order(nb_frames=10))
    coordinator.start()
    receivers[0].run.tell(rows(0, 4, 2, 8, 6))
    receivers[1].manners.dead = True
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Frame
from lima2_core.data.rows import LEDGER
from lima2_core.errors import NotAvailableError
from lima2_core.ids import AcqId
from lima2_core.state.device import AcqState
from lima2_core.system.outputs import RunOutput, RunView, Survivors
from lima2_core.system.ports import (
    ControlStatus,
    ReceiverStatus,
    RunDescription,
    RunNews,
    RunOrder,
    RunStatus,
    UnreachableError,
)
from lima2_core.testing.system_script import describe

# How parts behave


class Manners:
    """How a part answers its calls.

    Threads: set from the test, met on the threads of the coordinator.
    """

    def __init__(self, name: str) -> None:
        self.calls: list[str] = []
        """All calls but questions, in order."""
        self.errors: dict[str, Exception] = {}
        """What the named calls raise."""
        self.hangs_s: dict[str, float] = {}
        """How long the named calls take until they are given up."""
        self.silent = False
        """Whether nothing is answered, at once."""
        self.dead = False
        """The same, and it is known that nobody is there."""
        self.dies_at = ""
        """The call at which it dies."""
        self._name = name
        self._let_go = threading.Event()

    def meet(self, call: str) -> None:
        """Do to a call what it has to expect."""
        if call not in ("news", "status"):
            self.calls.append(call)
        if (hang_s := self.hangs_s.get(call)) is not None:
            self._let_go.wait(hang_s)
            raise UnreachableError(f"{self._name} does not answer")
        self.dead |= call == self.dies_at
        if self.dead:
            raise UnreachableError(f"{self._name} is gone", dead=True)
        if self.silent:
            raise UnreachableError(f"{self._name} does not answer")
        if (error := self.errors.get(call)) is not None:
            raise error

    def let_go(self) -> None:
        """End all that hangs, at the end of the test."""
        self._let_go.set()


class ScriptedRun:
    """One run on one receiver, in the hands of the test."""

    def __init__(self, manners: Manners, order: RunOrder, description: RunDescription) -> None:
        self.order = order
        self.manners = manners
        self.closed = False
        """Whether it will be asked no more."""
        self.status = RunStatus("prepared", False, 0, 0, {}, {})
        """What it says of itself."""
        self._description = description
        self._records: list[Mapping[str, NDArray[Any]]] = []
        self._lock = threading.Lock()

    def tell(self, told: NDArray[Any] | None = None, /, **records: NDArray[Any]) -> None:
        """Tell of frames, also as saved ones where rows are saved, and give records of them."""
        news = dict(records)
        if told is not None:
            news[LEDGER] = told
            for name in self._description.saved:
                news.setdefault(f"rows/{name}", told[told["row"] >= 0])
        with self._lock:
            self._records.append(news)

    def tell_of(self, stream: str, told: NDArray[Any]) -> None:
        """Give records of one stream."""
        with self._lock:
            self._records.append({stream: told})

    def finish(self, error: str = "", code: str = "pipeline", **status: Any) -> None:
        """Come to the end; nothing more will be told."""
        state, code = ("failed", code) if error else ("done", "")
        self.change(state=state, finished=True, error=error, error_code=code, **status)

    def change(self, **status: Any) -> None:
        """Say something else."""
        with self._lock:
            self.status = replace(self.status, **status)

    def describe(self) -> RunDescription:
        self.manners.meet("describe")
        return self._description

    def news(self) -> RunNews:
        self.manners.meet("news")
        with self._lock:
            told, self._records = self._records, []
            names = {name for news in told for name in news}
            merged = {name: np.concatenate([n[name] for n in told if name in n]) for name in names}
            return RunNews(self.status, merged)

    def frame(self, source: str, idx: int, step: int = 1) -> Frame:
        raise NotAvailableError("a scripted run has no frames")

    def close(self) -> None:
        self.closed = True


class ScriptedReceiver:
    """A receiver in the hands of the test.

    Args:
        name: of the receiver.
        description: what its runs will give.
        ends_at_stop: whether a stop ends its run at once.
    """

    def __init__(
        self, name: str, description: RunDescription | None = None, ends_at_stop: bool = True
    ) -> None:
        self.name = name
        self.manners = Manners(name)
        self.description = description or describe()
        self.state = AcqState.IDLE
        self.runs: list[ScriptedRun] = []
        """All runs ever prepared here."""
        self.erased: list[AcqId] = []
        self.asked_to_process: list[AcqId] = []
        self._ends_at_stop = ends_at_stop

    @property
    def run(self) -> ScriptedRun:
        """The run prepared last."""
        return self.runs[-1]

    def prepare(self, order: RunOrder) -> ScriptedRun:
        self.manners.meet("prepare")
        self.runs.append(ScriptedRun(self.manners, order, self.description))
        self.state = AcqState.PREPARED
        return self.run

    def start(self) -> None:
        self.manners.meet("start")
        self.state = AcqState.RUNNING
        self.run.change(state="running")

    def stop(self) -> None:
        self.manners.meet("stop")
        if self.state is AcqState.RUNNING and self._ends_at_stop:
            self._end("done")

    def reset(self) -> None:
        self.manners.meet("reset")
        if self.runs and not self.run.status.finished:
            self._end("discarded" if self.state is AcqState.PREPARED else "done")
        self.state = AcqState.IDLE

    def process(self, acq_id: AcqId) -> None:
        self.manners.meet("process")
        self.asked_to_process.append(acq_id)

    def erase(self, acq_id: AcqId) -> None:
        self.manners.meet("erase")
        self.erased.append(acq_id)
        if self.state is AcqState.PREPARED and self.run.order.acq_id == acq_id:
            self._end("discarded")

    def status(self) -> ReceiverStatus:
        self.manners.meet("status")
        return ReceiverStatus(self.state, "", self.run.order.acq_id if self.runs else AcqId(""))

    def _end(self, state: str) -> None:
        self.state = AcqState.IDLE
        self.run.change(state=state, finished=True)


class ScriptedControl:
    """A detector in the hands of the test."""

    def __init__(self, name: str = "control") -> None:
        self.name = name
        self.manners = Manners(name)
        self.state = AcqState.IDLE
        self.exposed = 0
        """Frames it says it has exposed."""
        self.error = ""
        self.doubt = ""
        """Why it says that it may give no more frames."""
        self.triggers = 0
        self._acq_id = AcqId("")

    def prepare(self, acq_id: AcqId, acquisition: Mapping[str, Any]) -> Mapping[str, Any]:
        self.manners.meet("prepare")
        self._acq_id = acq_id
        self.state, self.exposed, self.doubt = AcqState.PREPARED, 0, ""
        return acquisition

    def start(self) -> None:
        self.manners.meet("start")
        self.state = AcqState.RUNNING

    def trigger(self) -> None:
        self.manners.meet("trigger")
        self.triggers += 1

    def stop(self) -> None:
        self.manners.meet("stop")
        if self.state is AcqState.RUNNING:
            self.state = AcqState.STOPPED

    def close(self) -> None:
        self.manners.meet("close")
        if self.state is not AcqState.FAULT:
            self.state = AcqState.IDLE

    def reset(self) -> None:
        self.manners.meet("reset")
        self.state, self.error = AcqState.IDLE, ""

    def fail(self, error: str) -> None:
        """Break."""
        self.state, self.error = AcqState.FAULT, error

    def status(self) -> ControlStatus:
        self.manners.meet("status")
        return ControlStatus(self.state, self.exposed, self.error, self._acq_id, self.doubt)

    def detector_info(self) -> Mapping[str, Any]:
        self.manners.meet("detector_info")
        return {"model": "Scripted"}


# What is made of a run


class ScriptedOutput(RunOutput):
    """An output that remembers its calls, waits and fails where the test wants it to.

    Args:
        fail_in: name of the method that raises ``error``.
        wait_in: name of the method that waits for `let_go`.
    """

    name = "scripted"

    def __init__(
        self,
        fail_in: str = "",
        wait_in: str = "",
        rows_left: Callable[[str, int], Survivors | None] = lambda source, receiver: None,
    ) -> None:
        self.calls: list[str] = []
        """Names of the methods in the order of the calls; repeated ones once."""
        self.threads: set[int] = set()
        """Threads on which it was called."""
        self.run: RunView | None = None
        self.error: Exception = OSError("the disk is gone")
        self._fail_in = fail_in
        self._wait_in = wait_in
        self._rows_left = rows_left
        self._go = threading.Event()

    def let_go(self) -> None:
        """End the wait."""
        self._go.set()

    def check(self, run: RunView) -> None:
        if "check" in (self._fail_in, self._wait_in):
            self._note("check")

    def open(self, run: RunView) -> None:
        self.run = run
        self._note("open")

    def update(self) -> None:
        self._note("update")

    def finish(self) -> None:
        self._note("finish")

    def survivors(self, source: str, receiver: int) -> Survivors | None:
        self._note("survivors")
        return self._rows_left(source, receiver)

    def results(self) -> Sequence[str]:
        return ("/data/scripted",) if "finish" in self.calls else ()

    def _note(self, call: str) -> None:
        self.threads.add(threading.get_ident())
        if self.calls[-1:] != [call]:
            self.calls.append(call)
        if call == self._wait_in and not self._go.wait(20.0):
            raise TimeoutError("nobody let the output go")
        if call == self._fail_in:
            raise self.error
