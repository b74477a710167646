"""The near side of the process that runs slsdet."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from camera_plugins.jungfrau._sdk import MESSAGE_BYTES, Results, SlsError, Step
from lima2_core.errors import CameraError

_ROOT: Final = Path(__file__).resolve().parents[2]
_END_S: Final = 0.5

PROGRAM: Final = (sys.executable, "-m", "camera_plugins.jungfrau._sdk")


@dataclass(frozen=True, slots=True)
class _Pending:
    """What has no answer yet."""

    steps: tuple[Step, ...]
    about: str
    until_s: float
    """How long it is waited for."""


class DetectorLink:
    """Carries out steps in a process of its own; a `Detector`.

    Threads: one call at a time.
    """

    def __init__(
        self,
        program: Sequence[str] = PROGRAM,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._program = program
        self._now_s = now_s
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._pending: _Pending | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def run(
        self, steps: Sequence[Step], about: str, *, limit_s: float, patience_s: float = 0.0
    ) -> Results:
        until_s = self._now_s() + limit_s
        if not self.alive:
            self.close()
        if not self._has_asked(steps):
            with contextlib.suppress(SlsError):  # it was not waited for
                self._settle(until_s)
            self._ask(_Pending(tuple(steps), about, self._now_s() + max(patience_s, limit_s)))
        return self._settle(until_s)

    def _has_asked(self, steps: Sequence[Step]) -> bool:
        """Whether just this question waits for its answer: it is not asked twice."""
        pending = self._pending
        if pending is None or any(step.verb != "get" for step in steps):
            return False
        return pending.steps == tuple(steps) and self._now_s() < pending.until_s

    def _ask(self, question: _Pending) -> None:
        if self._control is None:
            self._begin()
        assert self._control is not None
        self._pending = question
        try:
            self._control.send(json.dumps([asdict(step) for step in question.steps]).encode())
        except OSError as error:
            raise self._died() from error

    def close(self) -> None:
        """End the process; harmless at any time."""
        self._pending = None
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            self._process.kill()
            self._process.wait()
            self._process = None

    def _begin(self) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
        with far:
            self._process = subprocess.Popen(
                [*self._program, str(far.fileno())],
                pass_fds=(far.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
                # A signal to all processes of a server must leave it the means to stop.
                start_new_session=True,
            )
        self._control = near

    def _settle(self, until_s: float) -> Results:
        """Wait for the answer that is due, if there is one."""
        if self._pending is None or self._control is None:
            return []
        about, patience_until_s = self._pending.about, self._pending.until_s
        wait_s = max(0.0, until_s - self._now_s())
        if not select.select([self._control], [], [], wait_s)[0]:
            if self._now_s() < patience_until_s - 1e-3:
                left_s = patience_until_s - self._now_s()
                raise CameraError(
                    f"the JUNGFRAU {about}, which can take up to {left_s:.0f} s more; try again in "
                    "a few seconds",
                    left_s=left_s,
                )
            self._kill()
            raise CameraError(
                f"the JUNGFRAU does not answer: it {about} and there was no end to it in time; see "
                "whether its modules are switched on and their network is connected"
            )
        answer = self._receive()
        self._pending = None
        if "fatal" in answer:
            self._kill()
            raise CameraError(str(answer["fatal"]))
        if "error" in answer:
            raise SlsError(str(answer["error"]))
        results: Results = answer["results"]
        return results

    def _receive(self) -> dict[str, Any]:
        assert self._control is not None
        try:
            message = self._control.recv(MESSAGE_BYTES)
        except OSError as error:
            raise self._died() from error
        if not message:
            raise self._died()
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        self.close()

    def _died(self) -> CameraError:
        status = self._process.poll() if self._process is not None else None
        self.close()
        return CameraError(f"the process that runs slsdet has ended (status {status}); try again")
