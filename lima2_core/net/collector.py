"""Puts packets into frames and frames into the table of completions; knows no socket."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.net.forecast import Forecast
from lima2_core.net.layout import PacketLayout
from lima2_core.net.sorting import Kind, Sorted, Span, sort_packets
from lima2_core.net.stats import NAMES
from lima2_core.net.table import RequestTable

_WORD = {name: number for number, name in enumerate(NAMES)}
_ACCEPTED, _DISPLACED = _WORD["accepted"], _WORD["displaced"]
_COMPLETE, _PARTIAL = _WORD["frames_complete"], _WORD["frames_partial"]
_MISSING, _LOST = _WORD["frames_missing"], _WORD["lost"]
_NEWEST, _WANTED = _WORD["newest"], _WORD["wanted"]
_CLASSES = tuple((kind, _WORD[kind.name.lower()]) for kind in Kind if kind < Kind.HOMELESS)

_LIBC = ctypes.CDLL(None)
_LIBC.memmove.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_LIBC.memmove.restype = ctypes.c_void_p


class Collector:
    """The state of one acquisition at one port.

    Packets are received into the places of the `forecast`. As long as they are the expected ones
    nothing is moved, and the work is some array operations per batch and frame. Otherwise the
    batch is sorted, and what lies in the wrong place is moved. The forecast holds no places but
    those whose packet has not come, in slots that this port was given: whatever a foreign packet
    leaves there is overwritten, or filled by the receiver.

    A frame is done when it is complete, or when a packet of the frame after the next one comes,
    or by `close_open`; in the order of the requests.

    Args:
        layout: of the packets.
        table: of the requests; its counters and rows may come from a listener that died.
        size: messages that are prepared at once.
    """

    def __init__(self, layout: PacketLayout, table: RequestTable, size: int = 1024) -> None:
        self.forecast = Forecast(layout, size)
        self._layout = layout
        self._table = table
        self._words = table.words
        self._span = Span(0, 0, 1)
        self._slots: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._given = 0
        self._newest = 0
        self._cursor = (0, 0)
        # Requests up to this one may hold packets that came out of their turn.
        self._uneven = -1
        self._scratch: NDArray[np.uint8] = np.empty((size, layout.payload_bytes), np.uint8)
        self._spill: NDArray[np.uint8] = np.empty((size, layout.payload_bytes), np.uint8)
        step = np.uint64(layout.payload_bytes)
        first = np.uint64(self._spill.ctypes.data)
        self._spill_address = first + np.arange(size, dtype=np.uint64) * step
        self._spill_headers = np.zeros_like(self.forecast.headers)
        self._spill_lengths = np.zeros(size, np.uint32)
        self._waiting = (0, 0)
        self.kernel_full = False
        """Whether the kernel still drops packets for want of slots; told by the listener."""

    def use_slots(self, addresses: NDArray[np.uint64]) -> None:
        """Say where the images of this port lie, one address for each slot."""
        self._slots = addresses

    def arm(self, span: Span, given: int) -> None:
        """Begin an acquisition, or go on with one that another collector began.

        Args:
            span: its frame numbers.
            given: the requests that are in the table.
        """
        self._span = span
        self._given = given
        self._newest = max(span.first - span.stride, self._words[_NEWEST])
        self._uneven = given - 1
        self._waiting = (0, 0)
        self._words[_WANTED] = 0
        self._cursor = (self._table.done, 0)
        self.forecast.clear()

    def absorb(self, count: int) -> None:
        """Take note of further requests."""
        self._given += count

    @property
    def waiting(self) -> bool:
        """Whether packets are at hand that wait for a slot."""
        return self._waiting[0] < self._waiting[1]

    @property
    def open(self) -> bool:
        """Whether a frame has begun, or been passed over, and is not done."""
        done = self._table.done
        return done < self._given and self._frame(done) <= self._newest

    @property
    def over(self) -> bool:
        """Whether the last frame of the acquisition is done."""
        done = self._table.done
        return done == self._given > 0 and self._frame(done - 1) == self._span.last

    def expect(self, least: int) -> int:
        """Prepare to receive.

        Args:
            least: messages below which the forecast is made again.

        Returns:
            The number of messages from ``forecast.at`` on that have a place.
        """
        forecast = self.forecast
        if forecast.end - forecast.at >= least:
            return forecast.end - forecast.at
        forecast.clear()
        number, first = max(self._cursor, (self._table.done, 0))
        self._expect_from(number, first)
        if forecast.end == 0 and self._table.done < self._given:
            self._uneven = self._given - 1
            self._expect_from(self._table.done, 0)  # what was passed over may still come
        if forecast.end == 0 and self.over:
            forecast.expect_nothing(self._spill_address)
        return forecast.end

    def _expect_from(self, number: int, first: int) -> None:
        table, layout, forecast = self._table, self._layout, self.forecast
        while number < self._given and forecast.end < forecast.size:
            row = number % table.size
            frame = int(table.frame[row])
            base = int(self._slots[table.slot[row]])
            if number <= self._uneven:
                places = np.flatnonzero(~table.mask[row, first:]) + first
                forecast.expect(number, frame, base, 0, places)
            elif first < layout.packets:
                forecast.expect(number, frame, base, first)
            number, first = number + 1, 0

    def take(self, count: int, now_ns: int) -> None:
        """Take the next ``count`` messages of the forecast, which have been received."""
        forecast = self.forecast
        if forecast.fulfilled(count):
            self._accept_expected(count, now_ns)
            return
        at, end = forecast.at, forecast.at + count
        headers, lengths = forecast.headers[at:end], forecast.lengths[at:end]
        address = forecast.address[at:end]
        found = self._sort(headers, lengths)
        # First of all, as their memory may be the place of packets that are accepted.
        self._keep_waiting(headers, lengths, address, len(found.kinds))
        self._settle(found, headers, address, now_ns)
        forecast.clear()

    def retry(self, now_ns: int) -> None:
        """Take the packets that wait, as far as their frames have a slot now."""
        first, end = self._waiting
        headers = self._spill_headers[first:end]
        found = self._sort(headers, self._spill_lengths[first:end])
        self._waiting = (first + len(found.kinds), end)
        self._settle(found, headers, self._spill_address[first:end], now_ns)
        self.forecast.clear()

    def _sort(self, headers: NDArray[Any], lengths: NDArray[np.uint32]) -> Sorted:
        return sort_packets(
            headers, lengths, self._layout, self._span, self._table, self._given, self._newest
        )

    def _keep_waiting(
        self,
        headers: NDArray[Any],
        lengths: NDArray[np.uint32],
        address: NDArray[np.uint64],
        first: int,
    ) -> None:
        """Copy the packets from ``first`` on, which wait for a slot."""
        left = len(headers) - first
        for number, source in enumerate(address[first:].tolist()):
            target = int(self._spill_address[number])
            if source != target:
                _LIBC.memmove(target, source, self._layout.payload_bytes)
        self._spill_headers[:left] = headers[first:]
        self._spill_lengths[:left] = lengths[first:]
        self._waiting = (0, left)

    def _accept_expected(self, count: int, now_ns: int) -> None:
        table = self._table
        for segment, begin, end in self.forecast.advance(count):
            row = segment.number % table.size
            places = segment.places(begin, end)
            before = int(table.packets[row])
            if not before:
                table.first_ns[row] = now_ns
                table.header[row] = self.forecast.headers["bytes"][begin]
            table.mask[row, places] = True
            table.packets[row] = before + end - begin
            self._newest = max(self._newest, segment.frame)
            last = segment.first + end - segment.begin
            if segment.packets is not None:
                last = int(segment.packets[end - 1 - segment.begin]) + 1
            self._cursor = max(self._cursor, (segment.number, last))
        self._words[_ACCEPTED] += count
        self._words[_NEWEST] = self._newest
        self._close(self._newest)

    def _settle(
        self, found: Sorted, headers: NDArray[Any], address: NDArray[np.uint64], now_ns: int
    ) -> None:
        """Count sorted packets, which lie at ``address``, and put the accepted ones in place."""
        accepted = np.flatnonzero(found.kinds == Kind.ACCEPTED)
        if len(accepted):
            self._put(found, accepted, headers, address, now_ns)
        # Counted last: what is counted outlives this process, whenever it ends.
        for kind, word in _CLASSES:
            self._words[word] += int(np.count_nonzero(found.kinds == kind))
        self._newest = found.newest
        if found.newest >= self._span.first:
            self._words[_NEWEST] = found.newest
        self._words[_WANTED] = max(0, found.homeless)
        self._close(found.newest)

    def _put(
        self,
        found: Sorted,
        accepted: NDArray[np.int64],
        headers: NDArray[Any],
        address: NDArray[np.uint64],
        now_ns: int,
    ) -> None:
        """Bring accepted packets to their places and enter them into the table."""
        table, layout = self._table, self._layout
        numbers, places = found.numbers[accepted], found.places[accepted]
        rows = numbers % table.size
        offsets = (places * layout.payload_bytes).astype(np.uint64)
        target = self._slots[table.slot[rows]] + offsets
        self._move(address[accepted], target)
        table.mask[rows, places] = True
        begun, first, counts = np.unique(rows, return_index=True, return_counts=True)
        for row, index, count in zip(begun, first, counts, strict=True):
            if not table.packets[row]:
                table.first_ns[row] = now_ns
                table.header[row] = headers["bytes"][accepted[index]]
            table.packets[row] += np.uint32(count)
        front = numbers == numbers.max()
        if numbers[front][0] >= self._cursor[0]:
            self._cursor = (int(numbers[front][0]), int(places[front][-1]) + 1)
        self._uneven = max(self._uneven, int(numbers.max()))

    def _move(self, source: NDArray[np.uint64], target: NDArray[np.uint64]) -> None:
        """Move payloads; a target may be the source of another one."""
        moved = np.flatnonzero(source != target)
        size, begin = self._layout.payload_bytes, self._scratch.ctypes.data
        for number, address in enumerate(source[moved].tolist()):
            _LIBC.memmove(begin + number * size, address, size)
        for number, address in enumerate(target[moved].tolist()):
            _LIBC.memmove(address, begin + number * size, size)
        self._words[_DISPLACED] += len(moved)

    def close_open(self) -> None:
        """Close all frames up to the newest one: no more of them is to be expected."""
        self._close(self._newest + 2 * self._span.stride)
        self.forecast.clear()

    def close_before(self, frame: int) -> None:
        """Close all frames before ``frame``, seen or not."""
        self._close(frame + self._span.stride)
        self.forecast.clear()

    def drop_waiting(self) -> None:
        """Give up the packets that wait for a slot: no more will come."""
        first, end = self._waiting
        self._words[_WORD["overrun"]] += end - first
        self._waiting = (0, 0)
        self._words[_WANTED] = 0

    def _close(self, newest: int) -> None:
        """Count requests as done: complete ones, and those two frames behind ``newest``."""
        table, words, packets = self._table, self._words, self._layout.packets
        number = table.done
        limit = newest - 2 * self._span.stride
        while number < self._given:
            have = int(table.packets[number % table.size])
            if have == packets:
                words[_COMPLETE] += 1
                if not self.kernel_full:
                    table.overrun = False
            elif self._frame(number) > limit:
                break
            else:
                words[_PARTIAL if have else _MISSING] += 1
                words[_LOST] += packets - have
                table.rows["overrun"][number % table.size] = table.overrun
            number += 1
            table.done = number

    def _frame(self, number: int) -> int:
        return int(self._table.frame[number % self._table.size])
