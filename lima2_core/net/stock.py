"""Listener processes that wait for work: they start once, not with every port."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from lima2_core.errors import CameraError
from lima2_core.net.pulse import is_stopped

_END_S: Final = 0.5
_READY_S: Final = 10.0
_ROOT = Path(__file__).resolve().parents[2]

Idle = tuple["subprocess.Popen[bytes]", socket.socket]
"""A process, and the near end of the socket pair over which it gets its commands."""


def spawn() -> Idle:
    """Start a process; it imports what it needs and waits for its setup.

    Raises:
        CameraError: the system does not let it start.
    """
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)  # whoever has this end waits for nothing but an answer
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
    # Libraries of numpy would start threads beside the one that receives.
    alone = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        with far:
            process = subprocess.Popen(
                [sys.executable, "-m", "lima2_core.net.listener", str(far.fileno())],
                pass_fds=(far.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, **alone},
            )
    except OSError as error:
        near.close()
        raise CameraError(
            f"a listener process cannot be started: {error.strerror or error}; see what memory "
            "and how many processes this user may have"
        ) from error
    return process, near


def waits(control: socket.socket, timeout_s: float) -> bool:
    """Whether a process says within ``timeout_s`` that it waits; it is still said afterwards."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    if not poll.poll(max(0.0, timeout_s) * 1e3):
        return False
    try:
        return bool(control.recv(1, socket.MSG_PEEK))
    except ConnectionResetError:
        return False


def end(idle: Idle) -> None:
    """End a process that has nothing to do."""
    process, control = idle
    control.close()  # it ends by itself
    if not is_stopped(process.pid):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
    end_now(process)


def end_now(process: subprocess.Popen[bytes]) -> None:
    """Kill a process.

    The wait has a limit, as one that waits for a disk dies when it gets its data: before it runs
    another instruction.
    """
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    if process.stderr is not None:
        process.stderr.close()


class ListenerStock:
    """Takes back the processes of ports that are closed, for the next ports.

    Args:
        count: processes started beforehand; it waits until they are ready, for ten seconds.

    Threads: one at a time.
    """

    def __init__(self, count: int = 0) -> None:
        self._idle = [spawn() for _ in range(count)]
        self._closed = False
        until_s = time.monotonic() + _READY_S
        for _, control in self._idle:
            waits(control, until_s - time.monotonic())

    def take(self) -> Idle:
        """A process that waits for its setup."""
        while self._idle:
            idle = self._idle.pop(0)
            if idle[0].poll() is None and not is_stopped(idle[0].pid):
                return idle
            end(idle)
        return spawn()

    def give_back(self, idle: Idle) -> None:
        """Keep a process that has let go of its port."""
        if self._closed:
            end(idle)
        else:
            self._idle.append(idle)

    def close(self) -> None:
        """End all that wait; what comes back later ends at once."""
        self._closed = True
        while self._idle:
            end(self._idle.pop())
