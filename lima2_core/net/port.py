"""The near side of one listener: its socket, its table of requests, its process."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.memory import BufferPool
from lima2_core.errors import CameraError, StateError
from lima2_core.net.collector import Collector
from lima2_core.net.layout import PacketLayout
from lima2_core.net.options import PortOptions
from lima2_core.net.process import ANSWER_S, STOP_S, ListenerProcess
from lima2_core.net.sockets import drops, granted_bytes, open_socket
from lima2_core.net.sorting import Span
from lima2_core.net.stats import NAMES, PortStats
from lima2_core.net.stock import ListenerStock
from lima2_core.net.table import HISTORY, RequestTable, read_bell

log = logging.getLogger(__name__)

NO_END: Final = 2**62
"""Last frame number of an acquisition whose length is not known."""

_NEWEST, _WANTED = NAMES.index("newest"), NAMES.index("wanted")


class Port:
    """Receives one UDP port in a process of its own.

    `give` slots for frame numbers, `start`, take `completions`, `stop`; any number of times. When
    the listener dies or hangs its socket goes on collecting packets: `renew` it, and `go_on`.

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
        self._rows = depth + 2 * HISTORY
        self._taken = 0
        self._span: Span | None = None
        self._listener: ListenerProcess | None = None
        self._resuming = False
        self._stop_until_s: float | None = None
        """When the answer to a stop is due; None if it could not be sent."""
        self._given_up = -1
        """The last frame up to which this listener was told to close all."""
        self._replaced = self._hung = 0
        self._failed_before = ""
        self._closed = False
        self._descriptors = contextlib.ExitStack()
        try:
            self._open(address, port)
        except BaseException:
            self.close()
            raise

    def _open(self, address: str, port: int) -> None:
        own = self._descriptors
        self._socket = own.enter_context(open_socket(address, port, self.options.buffer_bytes))
        self.port: int = self._socket.getsockname()[1]
        self.name = f"{address}:{self.port}"
        self._table_fd = RequestTable.make_memory(self.layout, self._rows)
        own.callback(os.close, self._table_fd)
        self._table = RequestTable(self._table_fd, self.layout, self._rows)
        self._requests = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        own.callback(os.close, self._requests)
        self._completions = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        own.callback(os.close, self._completions)
        self._drops_before = drops(self._socket)
        self._begin_process()

    def _begin_process(self) -> None:
        """Start a listener; it gets ready while others are started."""
        setup = {
            "layout": self.layout.to_json(),
            "rows": self._rows,
            "pool": asdict(self._pool.handle()),
            "offset_bytes": self.offset_bytes,
            **asdict(self.options),
        }
        fds = (self._socket.fileno(), self._table_fd, self._requests, self._completions)
        self._given_up = -1
        self._listener = ListenerProcess(self.name, self._stock, setup, fds, self._table)

    @property
    def pid(self) -> int:
        """Of the listener; 0 if there is none."""
        listener = self._listener
        return listener.pid if listener is not None else 0

    @property
    def fds(self) -> tuple[int, ...]:
        """What to wait on: readable if frames are done, or if there is news of the listener."""
        listener = self._own()
        always = self._completions, listener.pidfd
        return (*always, listener.fd) if self._resuming else always

    def _own(self) -> ListenerProcess:
        if self._listener is None:
            raise CameraError(f"port {self.name} has no listener", port=self.name)
        return self._listener

    def wait_ready(self) -> None:
        """Wait until the listener can be started.

        Raises:
            CameraError: it died, or hangs.
            BusyError: it is not ready within ten seconds.
        """
        self._own().wait_ready()

    def give(self, requests: Sequence[tuple[int, int]]) -> None:
        """Give slots to frames: pairs of frame number, rising, and slot.

        Not while it is `resuming`: the new listener would count them twice.

        Raises:
            StateError: more than ``depth`` would be under way.
        """
        if self._table.given + len(requests) - self._taken > self.depth:
            raise StateError(f"port {self.name} takes {self.depth} requests at a time")
        if requests:
            self._table.give(requests)
            os.eventfd_write(self._requests, len(requests))

    def clear(self) -> None:
        """Forget requests and counts of the last acquisition; before the first `give`.

        A listener that failed since then is replaced first, so that none works on them.

        Raises:
            CameraError: the system does not let another one start.
        """
        reason = self.failure(at_rest=True)
        if reason is not None:
            log.warning("%s; it is replaced", reason)
            self.renew()
        self._failed_before = reason or ""
        self._table.clear()
        read_bell(self._requests)
        read_bell(self._completions)
        self._taken = 0
        self._replaced = self._hung = 0
        self._given_up = -1

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
        self._span = None
        self._drops_before = drops(self._socket)
        span = Span(first, last, stride)
        read_bell(self._requests)  # the listener looks into the table
        self._own().send({"do": "start", "resume": False, **asdict(span)})
        self._own().answer(ANSWER_S, "start")
        self._span = span

    def close_before(self, frame: int) -> None:
        """Let the listener give up all frames before ``frame``; said once, however often asked."""
        if frame > self._given_up and self._own().send({"do": "close_before", "frame": frame}):
            self._given_up = frame

    def completions(self, timeout_s: float = 0.0) -> NDArray[Any]:
        """What became of the requests, in their order.

        Shapes: (frames,) of `lima2_core.net.table.row_dtype`.

        Raises:
            CameraError: the listener died or hangs, and nothing is left to be taken.
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
        self._stop_until_s = None
        if self._span is not None and not self._resuming and self.failure() is None:
            order = {"do": "stop", "drain_s": self.options.drain_s}
            if self._own().send(order):
                self._stop_until_s = time.monotonic() + STOP_S

    def wait_stopped(self) -> str | None:
        """Wait for the end after `ask_stop`; afterwards nobody writes to a slot.

        A listener that died, or that does not answer, is replaced; what it had of the frames that
        it saw is done.

        Returns:
            A sentence that names the listener if it was replaced.
        """
        span, self._span = self._span, None
        if span is None:
            return None
        reason = self.failure()
        if reason is None and self._resuming:
            reason = f"the listener of {self.name} was not ready yet at the stop"
        reason = reason or self._own().missed_stop(self._stop_until_s)
        self._resuming = False
        if reason is None:
            return None
        self._end_listener()  # so that it touches the table no more
        rest = Collector(self.layout, self._table, size=1)
        rest.arm(span, self._table.given)
        rest.close_open()
        self._tell_done()
        with contextlib.suppress(CameraError):  # the next start tells
            self._begin_process()
        return reason

    def failure(self, *, at_rest: bool = False) -> str | None:
        """A sentence if the listener died, hangs or is missing, else None; to be asked often.

        Args:
            at_rest: this was not asked for a while.
        """
        if self._listener is None:
            return f"port {self.name} has no listener"
        return self._listener.failure(at_rest=at_rest)

    def renew(self) -> None:
        """Start another listener in place of one that failed, without waiting for it.

        Raises:
            CameraError: the system does not let it start.
        """
        self._end_listener()
        self._tell_done()
        self._resuming = self._span is not None
        read_bell(self._requests)
        self._begin_process()

    @property
    def resuming(self) -> bool:
        """Whether a new listener has yet to go on with the acquisition; see `go_on`."""
        return self._resuming

    def go_on(self) -> None:
        """Let a new listener go on with the open frames, once it is ready; to be asked often.

        Raises:
            CameraError: it died, hangs, or is not ready within ten seconds.
        """
        if self._resuming and self._span is not None:
            order = {"do": "start", "resume": True, **asdict(self._span)}
            self._resuming = not self._own().take_over(order)

    def _end_listener(self) -> None:
        if self._listener is not None:
            self._hung += self._listener.hangs
            self._listener.kill()
            self._listener = None
        self._replaced += 1

    def _tell_done(self) -> None:
        """Ring for what is done, but was not said."""
        read_bell(self._completions)
        pending = self._table.done - self._taken
        if pending:
            os.eventfd_write(self._completions, pending)

    def stats(self) -> PortStats:
        """Snapshot; exact when the acquisition has ended."""
        listener = self._listener
        granted = (listener and listener.granted) or {}
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
            hung=self._hung,
            failed_before=self._failed_before,
        )

    def close(self) -> None:
        """End the listener and free the port; harmless at any time."""
        if self._closed:
            return
        self._closed = True
        self._span = None
        listener, self._listener = self._listener, None
        if listener is not None and not (self._gives_back and listener.give_back(self._stock)):
            listener.end()
        self._descriptors.close()
