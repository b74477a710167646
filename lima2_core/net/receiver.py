"""Frames of several ports, put together: the interfaces of a module, the modules of a receiver."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Validity
from lima2_core.data.memory import BufferPool, Lease
from lima2_core.errors import BusyError, CameraError, StateError
from lima2_core.net.options import PortOptions
from lima2_core.net.port import NO_END, Port
from lima2_core.net.pulse import LOOK_S
from lima2_core.net.received import Lost, PortAddress, Received
from lima2_core.net.stats import PortStats
from lima2_core.net.stock import ListenerStock
from lima2_core.net.table import read_bell, row_dtype

log = logging.getLogger(__name__)

MAX_REPLACED: Final = 3
"""Listeners replaced in one acquisition; a further one fails it."""

_RECHECK_S: Final = 2e-3


@dataclass(frozen=True, slots=True)
class _Request:
    number: int
    lease: Lease


class FrameReceiver:
    """Gives the same slots to all ports, and a frame when each port has said what it has of it.

    Frames come in the order of their numbers, each once: `Received`, or counted in a `Lost`. A
    listener that dies or hangs is replaced; nothing waits until the other one is ready. A port from
    which nothing comes does not hold up the others for longer than twice the time limit of a frame.

    Args:
        addresses: of the ports; all have the same number of packets in a frame.
        pool: where the frames go; its slots must exist.
        depth: slots that the ports may hold at a time.
        options: how to listen.
        stock: where listeners come from, and go back to; without it each is a new one.

    Raises:
        CameraError: an address cannot be used, or a listener does not start.

    Threads: one at a time, except `stats` and `wake`.
    """

    def __init__(
        self,
        addresses: Sequence[PortAddress],
        pool: BufferPool,
        *,
        depth: int = 64,
        options: PortOptions | None = None,
        stock: ListenerStock | None = None,
    ) -> None:
        self._row = row_dtype(addresses[0].layout)
        if any(row_dtype(at.layout) != self._row for at in addresses):
            raise StateError("the ports of a receiver need frames of the same number of packets")
        self.ports: list[Port] = []
        self._pool = pool
        self._depth = depth
        self._silence_s = 2 * (options or PortOptions()).frame_timeout_s
        self._pending: deque[_Request | Lost] = deque()
        self._done: list[deque[Any]] = [deque() for _ in addresses]
        self._silent: dict[int, int] = {}
        self._stride, self._next, self._last = 1, 0, -1
        self._short = False
        self._held_up_since_s = 0.0
        self._running = False
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            for at in addresses:
                self.ports.append(
                    Port(
                        at.layout,
                        at.address,
                        at.port,
                        pool,
                        offset_bytes=at.offset_bytes,
                        depth=depth,
                        options=options,
                        stock=stock,
                    )
                )
            for port in self.ports:
                self._insist(port, port.wait_ready)
        except BaseException:
            self.close()
            raise

    def start(self, first: int, *, stride: int = 1, count: int | None = None) -> None:
        """Receive frames ``first``, ``first + stride``... from now on.

        Raises:
            CameraError: a listener does not start.
        """
        self._forget()
        self._stride, self._next = stride, first
        self._last = NO_END if count is None else first + (count - 1) * stride
        for port in self.ports:
            port.clear()  # it renews what failed: all before one is waited for
        self._short = False
        self._supply()
        try:
            for port in self.ports:
                self._insist(port, partial(port.start, first, stride=stride, count=count))
        except BaseException:
            self._end_ports()
            self._forget()
            raise
        self._running = True

    @property
    def over(self) -> bool:
        """Whether all frames of the acquisition have been given out."""
        return self._next > self._last and not self._pending

    def next_frames(self, timeout_s: float) -> list[Received | Lost]:
        """What came, in order; nothing if ``timeout_s`` passed.

        Raises:
            CameraError: listeners die or hang again and again.
        """
        until_s = time.monotonic() + timeout_s
        while True:
            if self._all_well():
                self._supply()
            self._collect()
            frames = self._merge()
            left_s = until_s - time.monotonic()
            if frames or left_s <= 0 or not self._running or read_bell(self._alarm):
                return frames
            if not any(port.resuming for port in self.ports):
                self._hurry()
            # A slot that comes back to the pool rings no bell.
            held_up = self._held_up_since_s or len(self._pending) < self._depth
            self._wait(min(left_s, _RECHECK_S * 5 if held_up else LOOK_S))

    def stop(self) -> list[Received | Lost]:
        """End the acquisition; the frames that were still under way.

        It takes half a second at most, or one and a half if a listener gets no core.
        """
        if not self._running:
            return []
        self._end_ports()
        self._running = False
        self._collect()
        newest = max((row["frame"] for rows in self._done for row in rows), default=-1)
        # What no port has seen was not sent, as far as can be told here.
        for rows in self._done:
            have = len(rows)
            requests = [item for item in self._pending if isinstance(item, _Request)]
            for request in requests[have:]:
                if request.number <= newest:
                    rows.append(self._nothing(request.number))
        frames = self._merge()
        self._forget()
        return frames

    def _end_ports(self) -> None:
        for port in self.ports:
            port.ask_stop()
        for port in self.ports:
            if (reason := port.wait_stopped()) is not None:
                log.warning("%s; it is replaced", reason)

    def wake(self) -> None:
        """Let `next_frames` return now, or at its next call, whatever there is."""
        with contextlib.suppress(OSError):  # closed meanwhile
            os.eventfd_write(self._alarm, 1)

    def stats(self) -> tuple[PortStats, ...]:
        """Snapshot of each port."""
        return tuple(port.stats() for port in self.ports)

    def close(self) -> None:
        """End all listeners and free the ports; harmless at any time."""
        self._running = False
        for port in self.ports:
            port.close()
        self._forget()
        if self._alarm >= 0:
            os.close(self._alarm)
            self._alarm = -1

    def _forget(self) -> None:
        self._pending.clear()
        self._silent.clear()
        self._held_up_since_s = 0.0
        for rows in self._done:
            rows.clear()

    def _supply(self) -> None:
        """Give slots to the next frames."""
        left = (self._last - self._next) // self._stride + 1
        wanted = min(self._depth - self._requests_pending(), left)
        leases: list[Lease] = []
        while len(leases) < wanted:
            lease = self._pool.lease()
            if lease is None:
                self._short = True
                break
            leases.append(lease)
        if not leases:
            return
        self._pass_over(len(leases))
        self._short = len(leases) < wanted
        given = []
        for lease in leases:
            self._pending.append(_Request(self._next, lease))
            given.append((self._next, lease.slot))
            self._next += self._stride
        for port in self.ports:
            port.give(given)

    def _pass_over(self, slots: int) -> None:
        """Leave out frames if one that a port wants is out of reach otherwise."""
        wanted = max(port.wanted for port in self.ports)
        first = wanted - (slots - 1) * self._stride
        if first > self._next:
            overrun = self._short or any(port.overrun for port in self.ports)
            cause = Validity.OVERRUN if overrun else Validity.PACKET_LOSS
            count = (first - self._next) // self._stride
            self._pending.append(Lost(self._next, count, cause))
            self._next = first

    def _requests_pending(self) -> int:
        return sum(isinstance(item, _Request) for item in self._pending)

    def _collect(self) -> None:
        for port, rows in zip(self.ports, self._done, strict=True):
            rows.extend(port.take())

    def _merge(self) -> list[Received | Lost]:
        """The frames of which all ports are done."""
        frames: list[Received | Lost] = []
        while self._pending:
            head = self._pending[0]
            if isinstance(head, Lost):
                frames.append(head)
            elif all(self._done):
                rows = np.stack([rows.popleft() for rows in self._done])
                frames.append(self._put_together(head, rows))
            else:
                break
            self._pending.popleft()
            self._held_up_since_s = 0.0
        return frames

    def _put_together(self, request: _Request, rows: NDArray[Any]) -> Received | Lost:
        if not rows["packets"].any():
            cause = Validity.OVERRUN if rows["overrun"].any() else Validity.PACKET_LOSS
            return Lost(request.number, 1, cause)
        for port, row in zip(self.ports, rows, strict=True):
            if row["packets"] < port.layout.packets:
                port.layout.fill_missing(port.image(request.lease.view), row["mask"])
        return Received(request.number, request.lease, rows)

    def _nothing(self, number: int) -> Any:
        row: NDArray[Any] = np.zeros(1, self._row)
        row["frame"] = number
        return row[0]

    def _hurry(self) -> None:
        """Let ports from which nothing comes give up what the others have finished."""
        if not any(self._done) or all(self._done):
            return
        now_s = time.monotonic()
        self._held_up_since_s = self._held_up_since_s or now_s
        expired = now_s - self._held_up_since_s >= self._silence_s
        finished = max(int(rows[-1]["frame"]) for rows in self._done if rows)
        for number, (port, rows) in enumerate(zip(self.ports, self._done, strict=True)):
            if rows:
                continue
            newest = port.newest
            if self._silent.get(number) == newest:
                port.close_before(finished + self._stride)
            elif expired:
                self._silent[number] = newest
                log.warning("nothing came to %s for %.1f s", port.name, self._silence_s)
                port.close_before(finished + self._stride)
            else:
                self._silent.pop(number, None)

    def _all_well(self) -> bool:
        """See to listeners that fail, and to those that follow them; whether all receive."""
        if not self._running:
            return False
        for number, port in enumerate(self.ports):
            if (reason := self._failure_of(port)) is not None:
                self._renew(port, reason)
            if reason is not None or port.resuming:
                # What waits in its socket shall not be given up at once.
                self._silent.pop(number, None)
                self._held_up_since_s = 0.0
        return not any(port.resuming for port in self.ports)

    def _failure_of(self, port: Port) -> str | None:
        if (reason := port.failure()) is None:
            try:
                port.go_on()
            except CameraError as error:
                reason = error.message
        return reason

    def _renew(self, port: Port, reason: str) -> None:
        """Start another listener in place of one that failed, and of those that do not start."""
        while True:
            if port.replaced >= MAX_REPLACED:
                raise CameraError(f"{reason}, after {port.replaced} others", port=port.name)
            log.warning("%s; it is replaced", reason)
            try:
                port.renew()
            except CameraError as error:
                reason = error.message
            else:
                return

    def _insist(self, port: Port, order: Callable[[], None]) -> None:
        """Carry out what a listener must be well for.

        One that takes too long is replaced, but whoever gave the order does not wait that long
        for another one.
        """
        while True:
            try:
                order()
            except BusyError as error:
                self._renew(port, error.message)
                raise CameraError(error.message, port=port.name) from error
            except CameraError as error:
                self._renew(port, error.message)
            else:
                return

    def _wait(self, timeout_s: float) -> None:
        poll = select.poll()
        poll.register(self._alarm, select.POLLIN)
        for port in self.ports:
            for fd in port.fds:
                poll.register(fd, select.POLLIN)
        poll.poll(timeout_s * 1e3)
