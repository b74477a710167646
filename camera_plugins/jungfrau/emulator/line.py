"""One port of one module towards one destination: packets into a socket, with their faults."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from camera_plugins.jungfrau.emulator.account import LineAccount
from camera_plugins.jungfrau.faults import Fault, FaultKind
from camera_plugins.jungfrau.wire import (
    HEADER,
    HEADER_BYTES,
    PACKET_BYTES,
    PAYLOAD_BYTES,
    PortShape,
    frame_headers,
)
from lima2_core.net.mmsg import Batch

_MOENCH: Final = 5
_MOENCH_PAYLOAD: Final = 6400
_SEND_BUFFER: Final = 4 * 2**20

_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103  # Linux 4.18
_SEGMENTS: Final = 7
"""Packets that the kernel takes as one message and cuts apart; a message has 64 KiB."""


class Line:
    """Sends frames; a frame without faults is one system call and no work per packet.

    Args:
        shape: of the port.
        address: where to send to.
        account: to be filled.
        stride: distance of the frame numbers on this line.
        fields: header fields that do not change.
        keep_masks: note the mask of every frame, not only of incomplete ones.
        pause: waits so many seconds, or less if nobody wants to wait any more.
    """

    def __init__(
        self,
        shape: PortShape,
        address: tuple[str, int],
        account: LineAccount,
        stride: int,
        fields: Mapping[str, int],
        *,
        keep_masks: bool = True,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.account = account
        self._pause = pause
        self._keep_masks = keep_masks
        self._shape = shape
        self._stride = stride
        self._headers = frame_headers(shape, **fields)
        self._newest = -1
        # Delayed packets: frame in whose burst they come, their own frame, place and bytes.
        self._held: list[tuple[int, int, int, bytes]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._fd = self._socket.fileno()
        self._prepare_batch(_SEGMENTS if self._kernel_cuts() else 1)

    def _kernel_cuts(self) -> bool:
        """Let the kernel cut messages into packets, which spares it most of the work, if it can."""
        try:
            self._socket.setsockopt(_SOL_UDP, _UDP_SEGMENT, PACKET_BYTES)
        except OSError:
            return False
        return True

    def _prepare_batch(self, group: int) -> None:
        """Make messages of ``group`` packets each."""
        packets = self._shape.packets
        self._messages = -(-packets // group)
        self._batch = Batch(self._messages, 2 * group)
        self._batch.length[:, 0::2] = HEADER_BYTES
        self._batch.length[:, 1::2] = PAYLOAD_BYTES
        self._batch.used[-1] = 2 * (packets - (self._messages - 1) * group)
        self._places = np.arange(self._messages * group, dtype=np.uint64).reshape(-1, group)
        self._batch.base[:, 0::2] = self._addresses(self._headers, HEADER_BYTES)

    def close(self) -> None:
        self._socket.close()

    def send(
        self,
        number: int,
        image: NDArray[np.uint16],
        faults: Mapping[int, Fault],
        fields: Mapping[str, int],
    ) -> None:
        """Send a frame.

        Args:
            number: its frame number.
            image: of the port, contiguous.
            faults: by packet.
            fields: header fields of this frame.
        """
        for name, value in fields.items():
            self._headers[name] = value
        self._headers["frame_number"] = number
        self._batch.base[:, 1::2] = self._addresses(image, PAYLOAD_BYTES)
        due = [held for held in self._held if held[0] <= number]
        if faults or due:
            self._held = [held for held in self._held if held[0] > number]
            self.account.masks[number] = np.zeros(self._shape.packets, np.bool_)
            self._send_disturbed(number, image, faults, due)
            return
        self._send_frame()
        self._newest = number
        if self._keep_masks:
            self.account.masks[number] = np.ones(self._shape.packets, np.bool_)
        else:
            self.account.whole += 1

    def flush(self) -> None:
        """Send the delayed packets that are left."""
        for _, number, place, packet in sorted(self._held):
            self._send_late(number, place, packet)
        self._held.clear()

    def _addresses(self, array: NDArray[Any], step: int) -> NDArray[np.uint64]:
        return np.uint64(array.ctypes.data) + self._places * np.uint64(step)

    def _send_disturbed(
        self,
        number: int,
        image: NDArray[np.uint16],
        faults: Mapping[int, Fault],
        due: list[tuple[int, int, int, bytes]],
    ) -> None:
        packets = self._shape.packets
        rows = image.reshape(packets, -1)
        order, kinds = _order(packets, faults)
        for turn, place in enumerate(order):
            if turn == packets // 2:
                for _, held_number, held_place, packet in due:
                    self._send_late(held_number, held_place, packet)
            packet = self._headers[place].tobytes() + rows[place].tobytes()
            fault = kinds.get(place)
            if fault is None:
                self._send_good(number, place, packet)
                continue
            self.account.note(fault.kind)
            match fault.kind:
                case FaultKind.DROP:
                    pass
                case FaultKind.DELAY:
                    burst = number + fault.amount * self._stride
                    self._held.append((burst, number, place, packet))
                case FaultKind.DOUBLE:
                    self._send_good(number, place, packet)
                    self._send_one(packet)
                case FaultKind.SHORT:
                    self._send_one(packet[: len(packet) // 2])
                case FaultKind.FOREIGN:
                    self._send_one(self._foreign(place))
                    self._send_good(number, place, packet)
                case FaultKind.OUT_OF_RANGE:
                    self._send_one(self._out_of_range(place, packet))
                    self._send_good(number, place, packet)
                case FaultKind.SWAP:
                    self._send_good(number, place, packet)
                case FaultKind.PAUSE:
                    self._pause(fault.amount * 1e-3)
                    self._send_good(number, place, packet)

    def _foreign(self, place: int) -> bytes:
        """A packet of a MOENCH, or one of our size with its mark."""
        header = self._headers[place].copy()
        header["detector_type"] = _MOENCH
        size = _MOENCH_PAYLOAD if self.account.count(FaultKind.FOREIGN) % 2 else PAYLOAD_BYTES
        return bytes(header.tobytes()) + b"\x5a" * size

    def _out_of_range(self, place: int, packet: bytes) -> bytes:
        header = np.frombuffer(packet[:HEADER_BYTES], HEADER).copy()
        header["packet_number"] = self._shape.packets_per_image + place
        return header.tobytes() + b"\xa5" * PAYLOAD_BYTES

    def _send_good(self, number: int, place: int, packet: bytes) -> None:
        self._send_one(packet)
        self._newest = max(self._newest, number)
        self.account.masks[number][place] = True

    def _send_late(self, number: int, place: int, packet: bytes) -> None:
        self._send_one(packet)
        if number + 2 * self._stride <= self._newest:
            self.account.late += 1
        else:
            self.account.masks[number][place] = True

    def _send_one(self, packet: bytes) -> None:
        while True:
            try:
                self._socket.send(packet)
                break
            except ConnectionRefusedError:
                self.account.refused += 1
        self.account.sent += 1

    def _send_frame(self) -> None:
        sent = 0
        while sent < self._messages:
            try:
                now = self._batch.send(self._fd, sent, self._messages)
            except OSError as error:
                # A link with smaller packets refuses; it takes them one by one, in fragments.
                if error.errno not in (errno.EINVAL, errno.EMSGSIZE) or self._batch.pieces == 2:
                    raise
                self._socket.setsockopt(_SOL_UDP, _UDP_SEGMENT, 0)
                base = self._batch.base[0, 1]
                self._prepare_batch(1)
                self._batch.base[:, 1::2] = base + self._places * np.uint64(PAYLOAD_BYTES)
                sent = 0
                continue
            if not now:
                self.account.refused += 1
            sent += now
        self.account.sent += self._shape.packets


def _order(packets: int, faults: Mapping[int, Fault]) -> tuple[list[int], dict[int, Fault]]:
    """The order in which packets come, and the faults that hold; a swap takes two packets."""
    order, kinds = list(range(packets)), dict(faults)
    place = 0
    while place < packets:
        fault = kinds.get(place)
        if fault is not None and fault.kind is FaultKind.SWAP:
            if place + 1 < packets:
                order[place], order[place + 1] = place + 1, place
                kinds.pop(place + 1, None)
                place += 1
            else:
                del kinds[place]
        place += 1
    return order, kinds
