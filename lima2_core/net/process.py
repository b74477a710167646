"""The near side of a listener process: commands, answers, signs of life, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Final

from lima2_core.errors import BusyError, CameraError
from lima2_core.net.pulse import LOOK_S, Pulse, is_kept_waiting, is_stopped
from lima2_core.net.sockets import MESSAGE_BYTES
from lima2_core.net.stock import ListenerStock, end_now, waits
from lima2_core.net.table import RequestTable

ANSWER_S: Final = 10.0
"""A new process has to import its modules on a busy machine."""

STOP_S: Final = 0.45
"""For the end of an acquisition."""

_SLOW_STOP_S: Final = 1.5
"""For a listener that would end its acquisition, but gets no core."""

_LEAST_S: Final = 0.2
"""An answer to a stop has so long at least once somebody looks for it: who asked may have been kept
waiting itself, and the listener with it."""

_END_S: Final = 0.5


class ListenerProcess:
    """One listener, from its setup to its end; it dies, or hangs, once.

    Nothing here waits without a limit, and no command waits at all: a listener that reads none
    is one that hangs.

    Args:
        name: of the port.
        stock: where it comes from.
        setup: its first message.
        fds: what goes with it.
        table: where its signs of life are.
    """

    def __init__(
        self,
        name: str,
        stock: ListenerStock,
        setup: Mapping[str, object],
        fds: Sequence[int],
        table: RequestTable,
    ) -> None:
        self._name = name
        self._table = table
        self._process, self._control = stock.take()
        self.pid: int = self._process.pid
        try:
            self.pidfd = os.pidfd_open(self.pid)
            """Readable when it died."""
        except OSError as error:
            self._control.close()
            end_now(self._process)
            raise CameraError(
                f"the listener of {name} cannot be watched: {error.strerror or error}; see how "
                "many files this user may have open",
                port=name,
            ) from error
        self.granted: Mapping[str, str] | None = None
        """What it got of its setup; None as long as it is not ready."""
        self.hangs = False
        self._pulse: Pulse | None = None
        self._failure: str | None = None
        self._due_s = time.monotonic() + ANSWER_S
        """When it has to take over."""
        self._ordered = False
        """Whether it was told to take over."""
        # It may have died; the answer tells.
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            socket.send_fds(self._control, [json.dumps(setup).encode()], list(fds))

    @property
    def fd(self) -> int:
        """Readable when it has said something."""
        return self._control.fileno()

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until it can be started, for `ANSWER_S` if nothing else is said.

        Raises:
            CameraError: it died, or hangs.
            BusyError: it is not ready in time; it may be waited for again.
        """
        limit_s = ANSWER_S if timeout_s is None else timeout_s
        until_s = time.monotonic() + limit_s
        if self._pulse is None:
            self.answer(limit_s, "begin")
            self._pulse = Pulse(self._table, self.pid)
        if self.granted is None:
            self.granted = self.answer(until_s - time.monotonic(), "get ready")

    def take_over(self, order: Mapping[str, object]) -> bool:
        """Let it go on where another one failed, as far as it is by now; to be asked often.

        Args:
            order: the command, for when it is ready.

        Returns:
            Whether it has begun.

        Raises:
            CameraError: it died, hangs, or takes longer than `ANSWER_S`.
        """
        try:
            if not self._ordered:
                self.wait_ready(0.0)
                self.send(order)
                self._ordered, self._due_s = True, time.monotonic() + ANSWER_S
            self.answer(0.0, "take over")
        except BusyError as error:
            if time.monotonic() < self._due_s:
                return False
            reason = self.hang(f"it did not take over within {ANSWER_S:.2g} s")
            raise CameraError(reason, port=self._name) from error
        return True

    def send(self, command: Mapping[str, object]) -> bool:
        """Send a command, without waiting.

        Returns:
            Whether there was room for it. If it died, the next answer or `failure` tells.
        """
        try:
            self._control.send(json.dumps(command).encode())
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            return True
        return True

    def answer(self, timeout_s: float, to_do: str) -> dict[str, str]:
        """What it says next.

        Raises:
            CameraError: it died, or hangs.
            BusyError: it said nothing in time.
        """
        until_s = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while not poll.poll(max(0.0, min(until_s - time.monotonic(), LOOK_S)) * 1e3):
            if (reason := self.failure()) is not None:
                raise CameraError(reason, port=self._name)
            if time.monotonic() >= until_s:
                raise BusyError(
                    f"the listener of {self._name} did not {to_do} within {timeout_s:.2g} s",
                    port=self._name,
                )
        message = b""
        with contextlib.suppress(ConnectionResetError):
            message = self._control.recv(MESSAGE_BYTES)
        if not message:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            reason = self.failure() or f"the listener of {self._name} hung up"
            raise CameraError(reason, port=self._name)
        answer: dict[str, str] = json.loads(message)
        return answer

    def missed_stop(self, until_s: float | None) -> str | None:
        """Wait for the answer to a stop; a sentence if it did not come.

        Args:
            until_s: when it is due; None if the command could not be sent.
        """
        if until_s is None:
            return self.hang("it takes no commands")
        try:
            try:
                self.answer(max(_LEAST_S, until_s - time.monotonic()), "stop")
            except BusyError:
                if not self.is_kept_waiting:
                    raise
                until_s += _SLOW_STOP_S - STOP_S
                self.answer(max(_LEAST_S, until_s - time.monotonic()), "stop")
        except BusyError:
            return self.hang("it did not stop")
        except CameraError as error:
            return error.message
        return None

    def failure(self, *, at_rest: bool = False) -> str | None:
        """Look for signs of life; a sentence if it died or hangs, else None.

        Args:
            at_rest: nobody looked for a while, so a process that is stopped counts at once.
        """
        if self._failure is None:
            if self._process.poll() is not None:
                self._failure = f"the listener of {self._name} died {self._how_it_ended()}"
            elif at_rest and is_stopped(self.pid):
                self.hang("stopped")
            elif self._pulse is not None and (reason := self._pulse.failure()) is not None:
                self.hang(reason)
        return self._failure

    def hang(self, reason: str) -> str:
        """Count it as one that hangs; the sentence that says so."""
        self.hangs = True
        self._failure = f"the listener of {self._name} hangs ({reason})"
        return self._failure

    @property
    def is_kept_waiting(self) -> bool:
        """Whether the computer keeps it from going on."""
        return is_kept_waiting(self.pid)

    def give_back(self, stock: ListenerStock) -> bool:
        """Let it go to another port, if it is well; then this object is of no more use."""
        if self.granted is None or self.failure(at_rest=True) is not None:
            return False  # it may never get ready
        if not self.send({"do": "release"}) or not waits(self._control, _END_S):
            return False
        os.close(self.pidfd)
        stock.give_back((self._process, self._control))
        return True

    def end(self) -> None:
        """Hang up, so that it ends by itself, or kill it."""
        self._control.close()
        if self.failure(at_rest=True) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        self.kill()

    def kill(self) -> None:
        """End it; from now on it writes nowhere."""
        self._control.close()
        end_now(self._process)
        os.close(self.pidfd)

    def _how_it_ended(self) -> str:
        status = self._process.returncode
        how = f"(killed by signal {-status})" if status < 0 else f"(exit status {status})"
        said = ""
        if self._process.stderr is not None:
            text = self._process.stderr.read().decode(errors="replace").strip()
            said = text.rpartition("\n")[2]
        return f"{how}: {said}" if said else how
