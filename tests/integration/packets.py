"""An emulated JUNGFRAU and a receiver of its packets, and how to compare them."""

import time
from dataclasses import dataclass, replace

import numpy as np

from camera_plugins.jungfrau.emulator import Emulator, EmulatorConfig, numbered_images
from camera_plugins.jungfrau.faults import FaultKind, Faults
from camera_plugins.jungfrau.wire import FILL, MODULE_COLS, PortShape
from lima2_core.data.memory import BufferPool
from lima2_core.net import FrameReceiver, ListenerStock, Lost, PortAddress, PortOptions

HOST = "127.0.0.1"
LIMIT_S = 20.0
"""Only what hangs takes so long."""
PATIENT = PortOptions(frame_timeout_s=2.0, drain_s=0.05)
"""Longer than any pause of a busy computer within a frame."""


@dataclass
class Link:
    """A receiver for some modules, and the means to send to it."""

    modules: int = 1
    interfaces: int = 1
    rows: int = 16
    slots: int = 64
    depth: int = 48
    options: PortOptions = PATIENT
    stock: ListenerStock | None = None

    def __post_init__(self):
        self.shapes = [
            PortShape(self.interfaces, self.rows, port) for port in range(self.interfaces)
        ]
        self.module_bytes = self.rows * MODULE_COLS * 2
        self.pool = BufferPool(self.modules * self.module_bytes)
        self.pool.grow(self.slots)
        self.receiver = FrameReceiver(
            [
                PortAddress(
                    shape.packet_layout(), HOST, 0, module * self.module_bytes + shape.offset_bytes
                )
                for module in range(self.modules)
                for shape in self.shapes
            ],
            self.pool,
            depth=self.depth,
            options=self.options,
            stock=self.stock,
        )

    @property
    def addresses(self):
        return tuple((HOST, port.port) for port in self.receiver.ports)

    def config(self, frames, *faults, mix=None, **others):
        return EmulatorConfig(
            destinations=(self.addresses,),
            modules=self.modules,
            interfaces=self.interfaces,
            rows=self.rows,
            frames=frames,
            faults=Faults(faults, mix),
            **others,
        )

    def send(self, frames, *faults, images=numbered_images, **others):
        return Emulator(self.config(frames, *faults, **others), images).run()

    def take_all(self, account=None, *, patience_s=None):
        """Everything up to the last frame, whose end may be missing in a sending of ``account``.

        Of who sends without an account nothing is expected after ``patience_s``.
        """
        frames = []
        until_s = time.monotonic() + LIMIT_S
        while not self.receiver.over:
            # Asked first: what is done by then is given now, or by the stop.
            came = account is not None and self.has_come(account)
            more = self.receiver.next_frames(patience_s or 0.02)
            frames += more
            if came or (patience_s is not None and not more):
                break
            assert time.monotonic() < until_s, f"after {len(frames)} frames no more came"
        return frames + self.receiver.stop()

    def has_come(self, account):
        """Whether all packets that were sent to this receiver have been counted."""
        sent = sum(line.sent for line in account.lines if line.entry == 0)
        return sum(_met(port.counts) + port.kernel_drops for port in self.receiver.stats()) >= sent

    def acquire(self, frames, *faults, first_frame=1, **others):
        """One acquisition; what came, and what was sent."""
        self.receiver.start(first_frame, count=frames)
        account = self.send(frames, *faults, first_frame=first_frame, **others)
        return self.take_all(account), account

    def close(self):
        self.receiver.close()

    def image(self, frame):
        """(modules, rows, cols) of a received frame."""
        shape = (self.modules, self.rows, MODULE_COLS)
        return frame.lease.array(shape, np.uint16)

    def sent_image(self, account, number, entry=0, images=numbered_images, first_frame=1):
        """What the frame must look like, missing packets included."""
        expected = np.empty((self.modules, self.interfaces, self.shapes[0].packets, 4, MODULE_COLS))
        for module in range(self.modules):
            image = images(number - first_frame, module)
            for port, shape in enumerate(self.shapes):
                part = shape.part_of(image).reshape(shape.packets, 4, MODULE_COLS).copy()
                part[~account.line(module, port, entry).masks[number]] = FILL
                expected[module, port] = part
        return expected.reshape(self.modules, self.rows, MODULE_COLS)

    def check(self, frames, account, **others):
        """Every frame once, in order, with exactly the packets and pixels that were sent."""
        lines = [line for line in account.lines if line.entry == others.get("entry", 0)]
        numbers = []
        for frame in frames:
            if isinstance(frame, Lost):
                numbers += range(frame.number, frame.number + frame.count)
                continue
            numbers.append(frame.number)
            sent = np.array([line.masks[frame.number] for line in lines])
            assert np.array_equal(frame.mask, sent), frame.number
            expected = self.sent_image(account, frame.number, **others)
            assert np.array_equal(self.image(frame), expected), frame.number
        lost = {number for frame in frames if isinstance(frame, Lost) for number in (frame.number,)}
        empty = {
            number for number in numbers if not any(line.masks[number].any() for line in lines)
        }
        assert lost == empty
        last = max(number for line in lines for number, mask in line.masks.items() if mask.any())
        assert numbers == [number for number in lines[0].masks if number <= last]

    def check_counts(self, account):
        """The counters of each port are those of the emulator."""
        for port, line in zip(self.receiver.stats(), account.lines, strict=True):
            counts = port.counts
            assert port.kernel_drops == port.replaced == 0
            # Of what is behind the last packet that it got, a port knows nothing.
            newest = max((number for number, mask in line.masks.items() if mask.any()), default=0)
            done = [mask for number, mask in line.masks.items() if number <= newest]
            assert replace(
                counts, displaced=0, batches=0, idle=0, newest=0, stalls=0, stalled_ns=0
            ) == replace(
                type(counts)(),
                accepted=line.in_time,
                late=line.late,
                doubled=line.count(FaultKind.DOUBLE),
                short=line.count(FaultKind.SHORT),
                foreign=line.count(FaultKind.FOREIGN),
                out_of_range=line.count(FaultKind.OUT_OF_RANGE),
                frames_complete=sum(mask.all() for mask in done),
                frames_partial=sum(mask.any() and not mask.all() for mask in done),
                frames_missing=sum(not mask.any() for mask in done),
                lost=sum(np.count_nonzero(~mask) for mask in done),
            ), port.name

    def check_in_time(self, frames, account):
        """Every frame once, of one port: its packets are right, and none is counted twice.

        Which of those that were sent came in time is left open, as it depends on the time limit.
        """
        (line,), (port,) = account.lines, self.receiver.stats()
        masks = {}
        for frame in frames:
            if isinstance(frame, Lost):
                numbers = range(frame.number, frame.number + frame.count)
                masks |= dict.fromkeys(numbers, np.zeros(line.packets, np.bool_))
                continue
            got = masks[frame.number] = frame.mask[0]
            assert not (got & ~line.masks[frame.number]).any(), frame.number
            line.masks[frame.number] = got
            expected = self.sent_image(account, frame.number)
            assert np.array_equal(self.image(frame), expected), frame.number
        assert list(masks) == list(range(1, len(masks) + 1))
        counts, done = port.counts, masks.values()
        assert port.kernel_drops == counts.overrun == counts.stray == 0
        assert counts.accepted == sum(np.count_nonzero(mask) for mask in done)
        assert counts.lost == sum(np.count_nonzero(~mask) for mask in done)
        assert counts.frames_complete == sum(mask.all() for mask in done)
        assert counts.frames_missing == sum(not mask.any() for mask in done)
        assert counts.frames_complete + counts.frames_partial + counts.frames_missing == len(done)
        apart = {kind: line.count(kind) for kind in (FaultKind.SHORT, FaultKind.FOREIGN)}
        assert {FaultKind.SHORT: counts.short, FaultKind.FOREIGN: counts.foreign} == apart
        assert counts.out_of_range == line.count(FaultKind.OUT_OF_RANGE)
        good = counts.accepted + counts.late + counts.doubled
        assert good + counts.short + counts.foreign + counts.out_of_range == line.sent
        return counts.late - line.late


def _met(counts):
    """Packets that a port has dealt with."""
    good = counts.accepted + counts.late + counts.doubled
    bad = counts.short + counts.foreign + counts.out_of_range
    return good + bad + counts.stray + counts.overrun


def counts_of(link):
    """What the first port of a link has counted."""
    return link.receiver.stats()[0].counts
