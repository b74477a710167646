"""The process that receives from one socket, and does nothing else.

Started by `lima2_core.net.port`, which owns the socket, the table and the memory, so that they
outlive this process. Commands come over a socket pair whose other end is the receiver: when that
ends, so does this process. (A death signal would be bound to the thread that started it.)
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lima2_core.data.memory import PoolHandle, map_slots
from lima2_core.net.collector import Collector
from lima2_core.net.layout import PacketLayout
from lima2_core.net.mmsg import Batch
from lima2_core.net.pulse import BEAT_S
from lima2_core.net.sockets import MESSAGE_BYTES, drops
from lima2_core.net.sorting import Span
from lima2_core.net.stats import NAMES
from lima2_core.net.table import RequestTable, read_bell

BATCH: Final = 256
"""Packets of one system call, at most."""

_NAP_S: Final = 200e-6
"""Time to let packets gather: waking up for each of them costs more than the packet."""

_LONGEST_DRAIN_S: Final = 0.3
_CHECK_ROUNDS: Final = 64
_IDLE_S: Final = BEAT_S
_FDS: Final = 4
_PR_SET_TIMERSLACK: Final = 29
_MADV_POPULATE_WRITE: Final = 23
_WORD = {name: number for number, name in enumerate(NAMES)}
_ACCEPTED, _BATCHES, _IDLE = _WORD["accepted"], _WORD["batches"], _WORD["idle"]

_LIBC = ctypes.CDLL(None)
_LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Listener:
    """The loop of the process.

    Args:
        control: the end of the socket pair.
        setup: what `lima2_core.net.port` sends first.
        fds: what comes with it: the socket, the table, the bells of requests and completions.
    """

    def __init__(
        self, control: socket.socket, setup: Mapping[str, Any], fds: Sequence[int]
    ) -> None:
        self._control = control
        self._fds = fds
        self._layout = PacketLayout.from_json(setup["layout"])
        self._socket = socket.socket(fileno=fds[0])
        self._fd = self._socket.fileno()
        self._table = RequestTable(fds[1], self._layout, setup["rows"])
        self._words = self._table.words
        self._requests = fds[2]
        self._completions = fds[3]
        self._frame_timeout_s: float = setup["frame_timeout_s"]
        self._collector = Collector(self._layout, self._table)
        handle = setup["pool"]
        segments = tuple((fd, slots) for fd, slots in handle["segments"])
        self._slots = map_slots(PoolHandle(handle["pid"], handle["slot_bytes"], segments))
        self._offset: int = setup["offset_bytes"]
        self._addresses = [slot.ctypes.data + self._offset for slot in self._slots]
        self._collector.use_slots(np.array(self._addresses, np.uint64))
        self._unmapped = set(range(len(self._slots)))
        self._trash = Batch(BATCH, 1)  # buffers of no length: the kernel copies nothing
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll_slots = select.poll()
        for poll in (self._poll, self._poll_slots):
            poll.register(control, select.POLLIN)
            poll.register(self._requests, select.POLLIN)
        self._ended = self._released = False
        self._running = False
        self._started = False
        self._given = self._published = self._rounds = 0
        self._looked_s = 0.0
        """When the socket was looked into last: of what came since nothing is known."""
        self._last_s = 0.0
        self._last_accepted_s = 0.0
        self._stop_until_s: float | None = None
        self._drain_s = 0.0
        self._drops_before: int | None = None
        self._drops_idle: int | None = None

    def run(self) -> bool:
        """Receive until the port is given up, or its owner is gone.

        Returns:
            Whether there may be another port.
        """
        while not self._ended:
            self._table.give_sign()
            if self._running:
                self._round()
            else:
                self._rest()
        return self._released

    def close(self) -> None:
        """Let go of what came with the setup."""
        self._socket.close()
        for fd in self._fds[1:]:
            os.close(fd)

    def _rest(self) -> None:
        """Throw packets away until there is a command; map the memory meanwhile."""
        # Before the first start the packets may be those of a listener that died.
        poll = self._poll if self._started else self._poll_slots
        if self._unmapped:
            self._map(self._unmapped.pop())
            poll.poll(0)
        else:
            poll.poll(_IDLE_S * 1e3)
        # Requests that come now are counted at the start.
        read_bell(self._requests)
        if self._started:
            self._words[_IDLE] += self._discard()
        self._obey(0)

    def _discard(self) -> int:
        count = 0
        while (more := self._trash.receive(self._fd, 0, BATCH)) > 0:
            count += more
            if count >= BATCH * _CHECK_ROUNDS:
                break
        return count

    def _round(self) -> None:
        """Receive one batch, or wait for one."""
        collector = self._collector
        if collector.waiting:
            self._stall()
            return
        room = collector.expect(BATCH // 4)
        if room < BATCH and self._absorb():
            room = collector.expect(BATCH)
        if room == 0:
            self._stall()
            return
        self._rounds += 1
        if self._rounds % _CHECK_ROUNDS == 0:
            self._obey(0)
            self._check_times()
            if not self._running:
                return
        asked = min(room, BATCH)
        forecast = collector.forecast
        self._looked_s = time.monotonic()
        count = forecast.batch.receive(self._fd, forecast.at, forecast.at + asked)
        if count:
            words = self._words
            before = words[_ACCEPTED]
            words[_BATCHES] += 1
            collector.take(count, time.time_ns())
            self._publish()
            self._last_s = time.monotonic()
            if words[_ACCEPTED] != before:
                self._last_accepted_s = self._last_s
        if count < asked:
            self._wait()

    def _wait(self) -> None:
        """Wait for packets; the socket is empty."""
        self._drained()
        self._check_times()
        if not self._running:
            return
        ready = [fd for fd, _ in self._poll.poll(self._patience_s() * 1e3 + 1)]
        if self._requests in ready:
            self._absorb()
        if self._control.fileno() in ready:
            self._obey(0)
        if self._fd in ready:
            time.sleep(_NAP_S)

    def _stall(self) -> None:
        """Wait for a slot; packets stay in the socket as long as there is room."""
        collector = self._collector
        if self._absorb():
            self._drops_idle = None
            return
        begin_ns = time.monotonic_ns()
        readable = any(fd == self._fd for fd, _ in self._poll.poll(0))
        if (readable or collector.waiting) and self._drops_before is None:
            self._words[_WORD["stalls"]] += 1
            before = self._drops_idle
            self._drops_before = drops(self._socket) if before is None else before
        # Without data there is nothing to stall: what comes first wakes up.
        poll = self._poll_slots
        if self._drops_before is None:
            poll, self._drops_idle = self._poll, drops(self._socket)
        poll.poll(self._patience_s() * 1e3 + 1)
        if self._drops_before is not None:
            self._words[_WORD["stalled_ns"]] += time.monotonic_ns() - begin_ns
        self._obey(0)
        self._looked_s = time.monotonic()  # there is no room to look into the socket
        self._check_times()

    def _drained(self) -> None:
        """Note that the socket is empty: what the kernel dropped since a stall was its fault."""
        if self._drops_before is not None:
            lost = (drops(self._socket) - self._drops_before) % 2**32
            self._words[_WORD["kernel_overrun"]] += lost
            self._drops_before = None
            self._collector.kernel_full = False

    def _patience_s(self) -> float:
        """How long nothing has to be done if nothing happens."""
        now_s = time.monotonic()
        wait_s = _IDLE_S
        if self._collector.open:
            wait_s = min(wait_s, self._last_accepted_s + self._frame_timeout_s - now_s)
        if self._stop_until_s is not None:
            wait_s = min(wait_s, self._last_s + self._drain_s - now_s, self._stop_until_s - now_s)
        return max(0.0, wait_s)

    def _check_times(self) -> None:
        """Close frames that wait for too long; end what is to end."""
        now_s = self._looked_s
        if self._collector.open and now_s - self._last_accepted_s >= self._frame_timeout_s:
            self._collector.close_open()
            self._publish()
        if self._stop_until_s is not None and (
            now_s >= self._stop_until_s
            or (now_s - self._last_s >= self._drain_s or self._drops_before is not None)
        ):
            self._finish()

    def _absorb(self) -> int:
        """Take new requests, and the packets that waited for them."""
        count = read_bell(self._requests)
        if count:
            if self._unmapped:
                self._provide(self._given, self._given + count)
            self._given += count
            if self._drops_before is not None and drops(self._socket) != self._drops_before:
                self._table.overrun = self._collector.kernel_full = True
            self._collector.absorb(count)
            if self._collector.waiting:
                self._collector.retry(time.time_ns())
                self._publish()
                self._last_s = self._last_accepted_s = time.monotonic()
        return count

    def _provide(self, first: int, end: int) -> None:
        rows = np.arange(first, end) % self._table.size
        for slot in self._unmapped.intersection(self._table.slot[rows].tolist()):
            self._unmapped.discard(slot)
            self._map(slot)

    def _map(self, slot: int) -> None:
        """Let this process see the memory of a slot now: a fault per page costs a batch."""
        view = self._slots[slot]
        _LIBC.madvise(view.ctypes.data, len(view), _MADV_POPULATE_WRITE)
        self._table.give_sign()  # many large ones take a while

    def _publish(self) -> None:
        done = self._table.done
        if done != self._published:
            os.eventfd_write(self._completions, done - self._published)
            self._published = done

    def _obey(self, timeout_s: float) -> None:
        """Carry out the commands that are there."""
        while select.select([self._control], [], [], timeout_s)[0]:
            message = self._control.recv(MESSAGE_BYTES)
            if not message:
                self._ended, self._running = True, False
                return
            self._command(json.loads(message))

    def _command(self, command: Mapping[str, Any]) -> None:
        match command["do"]:
            case "start":
                self._start(Span(command["first"], command["last"], command["stride"]))
                if not command["resume"]:
                    self._words[_IDLE] += self._discard()
                self._control.send(b"{}")
            case "stop":
                self._drain_s = command["drain_s"]
                now_s = time.monotonic()
                self._stop_until_s = now_s + _LONGEST_DRAIN_S
                self._last_s = max(self._last_s, now_s)
                if not self._running:
                    self._finish()
            case "release":
                self._ended = self._released = True
                self._running = False
            case "close_before":
                self._absorb()  # it is said once, and holds for all that was given before
                self._collector.close_before(command["frame"])
                self._publish()

    def _start(self, span: Span) -> None:
        self._given = self._table.given
        self._provide(self._table.done, self._given)
        self._published = self._table.done
        self._collector.arm(span, self._given)
        self._running = self._started = True
        self._stop_until_s = None
        self._drops_before = self._drops_idle = None
        self._last_s = self._last_accepted_s = time.monotonic()

    def _finish(self) -> None:
        """End the acquisition, and say so."""
        collector = self._collector
        if self._running:
            stalled = self._drops_before is not None
            self._drained()
            collector.drop_waiting()
            collector.close_open()
            if stalled:
                self._words[_WORD["overrun"]] += self._discard()
            self._publish()
        self._running = False
        self._stop_until_s = None
        self._control.send(b"{}")


def granted_priority(priority: int) -> str:
    """Ask for real-time scheduling, and say what became of it."""
    if priority == 0:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        return "normal"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        return f"normal (fifo {priority} refused: {error.strerror})"
    return f"fifo {priority}"


def granted_cpus(cpus: Sequence[int], usual: set[int]) -> str:
    """Ask for cores, the usual ones if none are wanted, and say which ones there are."""
    refused = ""
    try:
        os.sched_setaffinity(0, cpus or usual)
    except (OSError, ValueError) as error:
        refused = f" ({','.join(map(str, cpus))} refused: {error})"
    return ",".join(map(str, sorted(os.sched_getaffinity(0)))) + refused


def serve_port(control: socket.socket, usual: set[int]) -> bool:
    """Say that there is nothing to do, wait for a setup, and serve its port.

    Returns:
        Whether there may be another one.
    """
    control.send(b"{}")
    message, fds, _, _ = socket.recv_fds(control, MESSAGE_BYTES, _FDS)
    if not message:
        return False
    setup = json.loads(message)
    listener = Listener(control, setup, fds)
    answer = {
        "priority": granted_priority(setup["priority"]),
        "cpus": granted_cpus(setup["cpus"], usual),
    }
    control.send(json.dumps(answer).encode())
    again = listener.run()
    listener.close()
    return again


def main(argv: Sequence[str]) -> int:
    """Serve the socket pair ``argv[0]`` until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the receiver ends this process
    usual = os.sched_getaffinity(0)
    _LIBC.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    # Nothing here makes reference cycles, and a collection would cost a batch.
    gc.collect()
    gc.disable()
    with socket.socket(fileno=int(argv[0])) as control:
        try:
            while serve_port(control, usual):
                gc.collect()
        except (BrokenPipeError, ConnectionResetError):
            return 0  # the receiver ended
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
