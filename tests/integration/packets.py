"""An emulated JUNGFRAU and a receiver of its packets, and how to compare them."""

from dataclasses import dataclass, field, replace

import numpy as np

from camera_plugins.jungfrau.emulator import Emulator, EmulatorConfig, numbered_images
from camera_plugins.jungfrau.faults import FaultKind, Faults
from camera_plugins.jungfrau.wire import FILL, MODULE_COLS, PortShape
from lima2_core.data.memory import BufferPool
from lima2_core.net import FrameReceiver, Lost, PortAddress, PortOptions

HOST = "127.0.0.1"
LIMIT_S = 5.0


@dataclass
class Link:
    """A receiver for some modules, and the means to send to it."""

    modules: int = 1
    interfaces: int = 1
    rows: int = 16
    slots: int = 64
    depth: int = 48
    options: PortOptions = field(default_factory=lambda: PortOptions(drain_s=0.05))

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

    def take_all(self, patience_s=0.02):
        """Everything that has been sent."""
        frames = []
        while not self.receiver.over and (more := self.receiver.next_frames(patience_s)):
            frames += more
        return frames + self.receiver.stop()

    def acquire(self, frames, *faults, first_frame=1, **others):
        """One acquisition; what came, and what was sent."""
        self.receiver.start(first_frame, count=frames)
        account = self.send(frames, *faults, first_frame=first_frame, **others)
        return self.take_all(), account

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
            assert port.kernel_drops == 0
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
                frames_complete=sum(mask.all() for mask in line.masks.values()),
                frames_partial=counts.frames_partial,
                frames_missing=counts.frames_missing,
                lost=counts.lost,
            ), port.name
            done = counts.frames_complete + counts.frames_partial + counts.frames_missing
            assert counts.lost == done * line.packets - line.in_time
            partial = sum(mask.any() and not mask.all() for mask in line.masks.values())
            assert counts.frames_partial == partial
