"""Where the next packets are expected, and the messages that put them there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.net.layout import PacketLayout
from lima2_core.net.mmsg import Batch


@dataclass(frozen=True, slots=True)
class Segment:
    """Messages ``begin`` to ``end`` - 1 expect packets of one frame.

    Shapes: ``packets`` (end - begin,) int64, places in the frame; None if they begin at
    ``first`` and follow each other.
    """

    begin: int
    end: int
    number: int
    """Of the request."""
    frame: int
    first: int
    packets: NDArray[np.int64] | None

    def places(self, begin: int, end: int) -> slice | NDArray[np.int64]:
        """The places of the messages from ``begin`` up to ``end``."""
        if self.packets is None:
            return slice(self.first + begin - self.begin, self.first + end - self.begin)
        return self.packets[begin - self.begin : end - self.begin]


class Forecast:
    """Messages whose payload goes where the next packets are expected; headers go apart.

    Shapes: ``headers``, ``expected`` (size,) of `PacketLayout.header_dtype`; ``lengths`` (size,)
    uint32; ``address`` (size,) uint64, where the payload of each message goes.
    """

    def __init__(self, layout: PacketLayout, size: int) -> None:
        self.size = size
        self.batch = Batch(size, 2)
        self.headers: NDArray[Any] = np.zeros(size, layout.header_dtype)
        self.lengths = self.batch.received
        self.address: NDArray[np.uint64] = self.batch.base[:, 1]
        self.at = 0
        """The next message."""
        self.end = 0
        """The number of messages that have a place."""
        self._layout = layout
        self._expected = layout.headers(size)
        self._known = layout.known_bits()
        self._differs: NDArray[np.uint64] = np.empty_like(self.headers["words"])
        self._segments: list[Segment] = []
        self._current = 0
        self._blind = False
        self._offsets = np.arange(layout.packets, dtype=np.uint64) * np.uint64(layout.payload_bytes)
        self._numbers = np.arange(layout.packets) + layout.first_packet
        step = np.uint64(self.headers.itemsize)
        first = np.uint64(self.headers.ctypes.data)
        self.batch.base[:, 0] = first + np.arange(size, dtype=np.uint64) * step
        self.batch.length[:, 0] = layout.header_bytes
        self.batch.length[:, 1] = layout.payload_bytes
        # Views of fields cost as much as the comparisons; they are made once.
        self._received_words: NDArray[np.uint64] = self.headers["words"]
        self._expected_words: NDArray[np.uint64] = self._expected["words"]
        self._expected_frame: NDArray[Any] = self._expected["frame"]
        self._expected_packet: NDArray[Any] = self._expected["packet"]

    def clear(self) -> None:
        """Expect nothing."""
        self.at = self.end = self._current = 0
        self._blind = False
        self._segments.clear()

    def expect(
        self,
        number: int,
        frame: int,
        base: int,
        first: int,
        packets: NDArray[np.int64] | None = None,
    ) -> None:
        """Add places of a frame, as many as there is room for.

        Args:
            number: of the request.
            frame: its frame number.
            base: address of its image.
            first: the first place, if they follow each other up to the end of the frame.
            packets: else the places.
        """
        begin = self.end
        wanted = self._layout.packets - first if packets is None else len(packets)
        count = min(wanted, self.size - begin)
        if count <= 0:
            return
        end = begin + count
        segment = Segment(begin, end, number, frame, first, packets)
        places = segment.places(begin, end)
        np.add(self._offsets[places], np.uint64(base), out=self.address[begin:end])
        self._expected_frame[begin:end] = frame
        self._expected_packet[begin:end] = self._numbers[places]
        self._segments.append(segment)
        self.end = end

    def expect_nothing(self, addresses: NDArray[np.uint64]) -> None:
        """Receive all the same, into memory at ``addresses``, to tell what comes.

        Shapes: ``addresses`` (size,) uint64.
        """
        self.clear()
        self._blind = True
        self.address[:] = addresses
        self.end = self.size

    def fulfilled(self, count: int) -> bool:
        """Whether the next ``count`` messages hold what was expected."""
        if self._blind:
            return False
        at, end = self.at, self.at + count
        differs = self._differs[:count]
        np.bitwise_xor(self._received_words[at:end], self._expected_words[at:end], out=differs)
        np.bitwise_and(differs, self._known, out=differs)
        if differs.any():
            return False
        return bool((self.lengths[at:end] == self._layout.packet_bytes).all())

    def advance(self, count: int) -> list[tuple[Segment, int, int]]:
        """Go on by ``count`` messages, and give their segments with the messages of each."""
        at, end = self.at, self.at + count
        passed = []
        while at < end:
            segment = self._segments[self._current]
            stop = min(end, segment.end)
            passed.append((segment, at, stop))
            at = stop
            if at == segment.end:
                self._current += 1
        self.at = at
        return passed
