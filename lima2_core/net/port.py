"""The near side of one listener: its socket, its table of requests, its process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.memory import BufferPool
from lima2_core.errors import BusyError, CameraError, StateError
from lima2_core.net.layout import PacketLayout
from lima2_core.net.sockets import MESSAGE_BYTES, drops, granted_bytes, open_socket
from lima2_core.net.sorting import Span
from lima2_core.net.stats import NAMES, PortStats
from lima2_core.net.stock import ListenerStock, waits
from lima2_core.net.table import HISTORY, RequestTable, read_bell

NO_END: Final = 2**62
"""Last frame number of an acquisition whose length is not known."""

_ANSWER_S: Final = 10.0
"""A new process has to import its modules on a busy machine."""

_STOP_S: Final = 0.45
_END_S: Final = 0.5
_NEWEST, _WANTED = NAMES.index("newest"), NAMES.index("wanted")


@dataclass(frozen=True, slots=True)
class PortOptions:
    """How a port listens."""

    buffer_bytes: int = 64 * 2**20
    """Socket buffer to ask for; what is granted is in the statistics."""
    priority: int = 0
    """Of SCHED_FIFO, 1 to 99; 0 for normal scheduling."""
    cpus: tuple[int, ...] = ()
    """Cores for the listener; all if empty."""
    frame_timeout_s: float = 0.2
    """An incomplete frame is closed when nothing came for so long."""
    drain_s: float = 0.02
    """An acquisition that is stopped ends when nothing came for so long."""


class Port:
    """Receives one UDP port in a process of its own.

    `give` slots for frame numbers, `start`, take `completions`, `stop`; any number of times. When
    the listener dies its socket goes on collecting packets: `replace` it.

    Args:
        layout: of the packets.
        address: of this machine.
        port: UDP port; 0 takes a free one, see `port`.
        pool: where the frames are; all its slots must exist already.
        offset_bytes: place of the image of this port in a slot.
        depth: requests under way at most.
        options: how to listen.
        stock: where listeners come from, and go back to; each is a new one without it.

    Raises:
        CameraError: the address cannot be used.

    Threads: one at a time, except `stats`.
    """

    def __init__(
        self,
        layout: PacketLayout,
        address: str,
        port: int,
        pool: BufferPool,
        *,
        offset_bytes: int = 0,
        depth: int = 64,
        options: PortOptions | None = None,
        stock: ListenerStock | None = None,
    ) -> None:
        if offset_bytes + layout.frame_bytes > pool.slot_bytes:
            raise StateError(
                f"a slot of {pool.slot_bytes} bytes has no room for {layout.frame_bytes} bytes at "
                f"{offset_bytes}; give a pool with larger slots"
            )
        self.layout = layout
        self.depth = depth
        self.offset_bytes = offset_bytes
        self.options = options or PortOptions()
        self._pool = pool
        self._gives_back = stock is not None
        self._stock = stock or ListenerStock()
        self._socket = open_socket(address, port, self.options.buffer_bytes)
        self.port: int = self._socket.getsockname()[1]
        self.name = f"{address}:{self.port}"
        self._rows = depth + 2 * HISTORY
        self._table_fd = RequestTable.make_memory(layout, self._rows)
        self._table = RequestTable(self._table_fd, layout, self._rows)
        self._requests = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._completions = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._taken = 0
        self._drops_before = drops(self._socket)
        self._span: Span | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._pidfd = -1
        self._granted: Mapping[str, str] | None = None
        self._last_words = ""
        self._replaced = 0
        self._closed = False
        self._begin_process()

    def _begin_process(self) -> None:
        """Start a listener; it gets ready while others are started."""
        handle = self._pool.handle()
        setup = {
            "layout": self.layout.to_json(),
            "rows": self._rows,
            "pool": asdict(handle),
            "offset_bytes": self.offset_bytes,
            **asdict(self.options),
        }
        given = (self._socket.fileno(), self._table_fd, self._requests, self._completions)
        self._process, self._control = self._stock.take()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._granted = None
        self._last_words = ""
        with contextlib.suppress(BrokenPipeError):  # it died; the answer tells
            socket.send_fds(self._control, [json.dumps(setup).encode()], given)

    @property
    def pid(self) -> int:
        """Of the listener; 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def fds(self) -> tuple[int, int]:
        """What to wait on: readable if frames are done, or if the listener died."""
        return self._completions, self._pidfd

    def wait_ready(self) -> None:
        """Wait until the listener can be started.

        Raises:
            CameraError: it died.
            BusyError: it is not ready within ten seconds.
        """
        if self._granted is None:
            self._answer(_ANSWER_S, "begin")
            self._granted = self._answer(_ANSWER_S, "get ready")

    def give(self, requests: Sequence[tuple[int, int]]) -> None:
        """Give slots to frames: pairs of frame number, rising, and slot.

        Raises:
            StateError: more than ``depth`` would be under way.
        """
        if self._table.given + len(requests) - self._taken > self.depth:
            raise StateError(f"port {self.name} takes {self.depth} requests at a time")
        if requests:
            self._table.give(requests)
            os.eventfd_write(self._requests, len(requests))

    def clear(self) -> None:
        """Forget requests and counts of the last acquisition; before the first `give`."""
        self._table.clear()
        read_bell(self._requests)
        read_bell(self._completions)
        self._taken = 0
        self._replaced = 0

    def start(self, first: int, *, stride: int = 1, count: int | None = None) -> None:
        """Receive from now on; packets that came before are thrown away.

        Args:
            first: the first frame number.
            stride: distance of the frame numbers of this receiver.
            count: how many frames; None if not known.

        Raises:
            CameraError, BusyError: the listener died or does not answer.
        """
        self.wait_ready()
        last = NO_END if count is None else first + (count - 1) * stride
        self._span = Span(first, last, stride)
        self._drops_before = drops(self._socket)
        self._order_start(self._span, resume=False)

    def _order_start(self, span: Span, *, resume: bool) -> None:
        read_bell(self._requests)  # the listener looks into the table
        self._send({"do": "start", "resume": resume, **asdict(span)})
        self._answer(_ANSWER_S, "start")

    def close_before(self, frame: int) -> None:
        """Let the listener give up all frames before ``frame``."""
        self._send({"do": "close_before", "frame": frame})

    def completions(self, timeout_s: float = 0.0) -> NDArray[Any]:
        """What became of the requests, in their order.

        Shapes: (frames,) of `lima2_core.net.table.row_dtype`.

        Raises:
            CameraError: the listener died, and nothing is left to be taken.
        """
        poll = select.poll()
        for fd in self.fds:
            poll.register(fd, select.POLLIN)
        poll.poll(timeout_s * 1e3)
        done = self.take()
        if not len(done) and (reason := self.failure()) is not None:
            done = self._take(self._table.done - self._taken)  # done, but not said
            if not len(done):
                raise CameraError(reason, port=self.name)
        return done

    def take(self) -> NDArray[Any]:
        """The completions that are there, without waiting and whatever the listener does."""
        return self._take(read_bell(self._completions))

    def _take(self, count: int) -> NDArray[Any]:
        done = self._table.completions(self._taken, self._taken + count)
        self._taken += count
        return done

    @property
    def newest(self) -> int:
        """The highest frame number that was seen."""
        return self._table.words[_NEWEST]

    @property
    def wanted(self) -> int:
        """The frame number that waits for a slot; 0 if none does."""
        return self._table.words[_WANTED]

    @property
    def overrun(self) -> bool:
        """Whether packets that are missing now are so for want of slots."""
        return self._table.overrun

    @property
    def replaced(self) -> int:
        """Listeners replaced since the acquisition began."""
        return self._replaced

    @property
    def kernel_drops(self) -> int:
        """Packets that the kernel dropped since the acquisition began."""
        return (drops(self._socket) - self._drops_before) % 2**32

    def image(self, slot: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of a slot that this port fills."""
        return slot[self.offset_bytes : self.offset_bytes + self.layout.frame_bytes]

    def ask_stop(self) -> None:
        """Let the acquisition end once nothing comes any more."""
        if self._span is not None and self.failure() is None:
            self._send({"do": "stop", "drain_s": self.options.drain_s})

    def wait_stopped(self) -> None:
        """Wait for the end after `ask_stop`; afterwards the listener writes to no slot.

        A listener that does not answer is killed; the next `start` needs `replace`.
        """
        if self._span is None:
            return
        self._span = None
        try:
            self._answer(_STOP_S, "stop")
        except (BusyError, CameraError):
            self._kill()

    def failure(self) -> str | None:
        """A sentence if the listener died, else None."""
        if self._process is None or self._process.poll() is None:
            return None
        status = self._process.returncode
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        if self._process.stderr is not None and not self._process.stderr.closed:
            text = self._process.stderr.read().decode(errors="replace").strip()
            self._process.stderr.close()
            self._last_words = text.rpartition("\n")[2]
        said = self._last_words
        return f"the listener of {self.name} died ({how})" + (f": {said}" if said else "")

    def replace(self) -> None:
        """Start another listener in place of one that died; it goes on with the open frames.

        Raises:
            CameraError, BusyError: that fails, too.
        """
        self._kill()
        read_bell(self._completions)
        pending = self._table.done - self._taken
        if pending:
            os.eventfd_write(self._completions, pending)
        self._replaced += 1
        self._begin_process()
        self.wait_ready()
        if self._span is not None:
            self._order_start(self._span, resume=True)

    def stats(self) -> PortStats:
        """Snapshot; exact when the acquisition has ended."""
        granted = self._granted or {}
        closed = self._closed
        return PortStats(
            name=self.name,
            counts=self._table.counts(),
            kernel_drops=0 if closed else self.kernel_drops,
            buffer_asked_bytes=self.options.buffer_bytes,
            buffer_granted_bytes=0 if closed else granted_bytes(self._socket),
            priority=granted.get("priority", ""),
            cpus=granted.get("cpus", ""),
            pid=self.pid,
            replaced=self._replaced,
        )

    def close(self) -> None:
        """End the listener and free the port; harmless at any time."""
        if self._closed:
            return
        self._closed = True
        self._span = None
        if self._gives_back:
            self._give_back()
        if self._control is not None:
            self._control.close()  # the listener ends by itself
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        self._kill()
        self._socket.close()
        for fd in (self._table_fd, self._requests, self._completions):
            os.close(fd)

    def _give_back(self) -> None:
        """Let the listener go to another port, if it is well."""
        if self._process is None or self._control is None or self.failure() is not None:
            return
        if self._granted is None:  # it may never get ready
            return
        self._send({"do": "release"})
        if not waits(self._control, _END_S):
            return
        os.close(self._pidfd)
        self._control.settimeout(None)
        self._stock.give_back((self._process, self._control))
        self._process, self._control, self._pidfd = None, None, -1

    def _kill(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
            os.close(self._pidfd)
            self._process, self._pidfd = None, -1

    def _send(self, command: Mapping[str, object]) -> None:
        if self._control is not None:
            with contextlib.suppress(BrokenPipeError):  # the next answer or poll tells
                self._control.send(json.dumps(command).encode())

    def _answer(self, timeout_s: float, to_do: str) -> dict[str, str]:
        until_s = time.monotonic() + timeout_s
        if self._control is None:
            raise CameraError(f"port {self.name} has no listener", port=self.name)
        self._control.settimeout(max(0.001, until_s - time.monotonic()))
        try:
            message = self._control.recv(MESSAGE_BYTES)
        except TimeoutError as error:
            raise BusyError(
                f"the listener of {self.name} did not {to_do} within {timeout_s:g} s"
            ) from error
        except ConnectionResetError:
            message = b""
        if not message:
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_S)
            raise CameraError(
                self.failure() or f"the listener of {self.name} hung up", port=self.name
            )
        answer: dict[str, str] = json.loads(message)
        return answer
