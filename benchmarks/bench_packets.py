"""The packet engine against a bare sink, which receives as many packets and throws them away.

Both have the same socket buffer and priority, and the same sender: the emulator of JUNGFRAU, which
hands seven packets at a time to the kernel and so is faster than what receives them one by one. All
processes have real-time priority where it is allowed: on a machine with other work the figures
would be those of its scheduler. Where nothing is lost at the full speed of the sender, that is the
rate. Of three tries at a rate the best one counts: what a virtual machine takes away from all its
processes for some milliseconds is a loss. Both sides take turns.

At 1 kHz, where packets come in bursts with pauses, what a frame costs beside its packets shows: a
sink has no frames. This figure has no limit.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import Result, result
from camera_plugins.jungfrau.wire import PACKET_BYTES, PAYLOAD_BYTES, PortShape
from lima2_core.data.memory import BufferPool
from lima2_core.net import FrameReceiver, PortAddress, PortOptions, Received
from lima2_core.net.listener import granted_priority
from lima2_core.net.mmsg import Batch
from lima2_core.net.sockets import drops, open_socket

SECONDS = 3.0
TRIES = 3
USUAL_SECONDS = 2.0
STEPS = 4
USUAL_HZ = 1_000.0
MOST_HZ = 12_000.0
LIKELY_HZ = 6_000.0
"""What a sender reaches about; so many frames a second are sent where no rate is asked for."""
BUFFER_BYTES = 32 * 2**20
PRIORITY = 50
SLOTS = 256
PACKETS = PortShape().packets
FRAME_GB = PACKETS * PACKET_BYTES / 1e9


@dataclass(frozen=True, slots=True)
class Run:
    """One rate, one receiver."""

    asked_hz: float
    sent_hz: float
    lost: int
    """Packets."""
    cpu_s_per_gb: float


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e9


class Sender:
    """The emulator in a process of its own."""

    def __init__(self, port: int, rate_hz: float) -> None:
        seconds = USUAL_SECONDS if rate_hz == USUAL_HZ else SECONDS
        self.frames = int(min(rate_hz, LIKELY_HZ) * seconds)
        command = [sys.executable, "-m", "camera_plugins.jungfrau.emulate", "jungfrau"]
        command += ["--dest", f"127.0.0.1:{port}", "--frames", str(self.frames)]
        command += ["--images", "pattern", "--rate", str(rate_hz if rate_hz < MOST_HZ else 0)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def rate_hz(self) -> float:
        """Wait for the end."""
        text, _ = self._process.communicate()
        seconds = float(text.partition(b'"seconds": ')[2].partition(b",")[0])
        return self.frames / seconds

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None


def sink(fd: int) -> None:
    """Receive and forget, always into the same memory, until killed."""
    granted_priority(PRIORITY)
    receiving = socket.socket(fileno=fd)
    receiving.setblocking(True)
    batch = Batch(128, 2)
    header, payload = ctypes.create_string_buffer(64 * 128), np.zeros((128, PAYLOAD_BYTES), "u1")
    number = np.arange(128, dtype=np.uint64)
    batch.base[:, 0] = np.uint64(ctypes.addressof(header)) + number * np.uint64(64)
    batch.base[:, 1] = np.uint64(payload.ctypes.data) + number * np.uint64(PAYLOAD_BYTES)
    batch.length[:] = PACKET_BYTES - PAYLOAD_BYTES, PAYLOAD_BYTES
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        batch.receive(fd, 0, 128, wait=True)


def run_sink(rate_hz: float) -> Run:
    """Drive the sink at one rate."""
    receiving = open_socket("127.0.0.1", 0, BUFFER_BYTES)
    code = f"from benchmarks import bench_packets; bench_packets.sink({receiving.fileno()})"
    with subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=[receiving.fileno()], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before_s = _cpu_s(process.pid)
        sender = Sender(receiving.getsockname()[1], rate_hz)
        sent_hz = sender.rate_hz()
        time.sleep(0.1)
        cpu_s = _cpu_s(process.pid) - before_s
        process.kill()
    lost = drops(receiving)
    receiving.close()
    received_gb = (sender.frames * PACKETS - lost) * PACKET_BYTES / 1e9
    return Run(rate_hz, sent_hz, lost, cpu_s / received_gb)


class Engine:
    """A receiver of one port, kept from rate to rate as in a server."""

    def __init__(self) -> None:
        self._pool = BufferPool(PortShape().packet_layout().frame_bytes)
        self._pool.grow(SLOTS)
        while self._pool.touch():
            pass
        self.receiver = FrameReceiver(
            [PortAddress(PortShape().packet_layout(), "127.0.0.1")],
            self._pool,
            depth=SLOTS * 2 // 3,
            options=PortOptions(buffer_bytes=BUFFER_BYTES, priority=PRIORITY),
        )

    def run(self, rate_hz: float) -> Run:
        """Drive the engine at one rate."""
        port = self.receiver.ports[0]
        self.receiver.start(1)
        before_s = _cpu_s(port.pid)
        sender = Sender(port.port, rate_hz)
        complete = 0
        while not sender.ended:
            for frame in self.receiver.next_frames(0.05):
                complete += isinstance(frame, Received) and frame.complete
        sent_hz = sender.rate_hz()
        for frame in [*self.receiver.next_frames(0.05), *self.receiver.stop()]:
            complete += isinstance(frame, Received) and frame.complete
        cpu_s = _cpu_s(port.pid) - before_s
        counts = self.receiver.stats()[0].counts
        lost = sender.frames * PACKETS - counts.accepted
        if not lost:
            assert complete == sender.frames
        return Run(rate_hz, sent_hz, lost, cpu_s / (counts.accepted * PACKET_BYTES / 1e9))


def loss_free(run: Callable[[float], Run]) -> Run:
    """The fastest of some rates at which nothing is lost; rates are halved apart."""
    low: Run | None = None
    low_hz, high_hz = 0.0, MOST_HZ
    rate_hz = MOST_HZ
    for _ in range(STEPS + 1):
        done = min((run(rate_hz) for _ in range(TRIES)), key=lambda one: one.lost)
        if done.lost == 0:
            low, low_hz = done, done.sent_hz
            if rate_hz == MOST_HZ:
                break
        else:
            high_hz = min(done.sent_hz, rate_hz)
        rate_hz = (low_hz + high_hz) / 2
    return low or Run(0.0, 0.0, 0, 0.0)


def main() -> list[Result]:
    """Find the loss-free rate of both (or that of the sender), and what a gigabyte costs them."""
    granted_priority(PRIORITY - 10)  # the sender has it from here
    engine = Engine()
    time.sleep(0.5)  # the listener maps the slots
    bare, ours = loss_free(run_sink), loss_free(engine.run)
    pairs = [(run_sink(USUAL_HZ), engine.run(USUAL_HZ)) for _ in range(3)]
    engine.receiver.close()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    bare_cpu, our_cpu = (min(pair[side].cpu_s_per_gb for pair in pairs) for side in (0, 1))
    return [
        result(
            "packets.loss_free_rate",
            ours.sent_hz * FRAME_GB,
            "GB/s",
            reference=bare.sent_hz * FRAME_GB,
            at_least=0.9,
        ),
        result(
            "packets.cpu_at_loss_free_rate",
            ours.cpu_s_per_gb,
            "s/GB",
            reference=bare.cpu_s_per_gb,
            at_most=1.3,
        ),
        result("packets.cpu_at_1_khz", our_cpu, "s/GB", reference=bare_cpu),
    ]
