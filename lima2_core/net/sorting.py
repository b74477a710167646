"""What becomes of packets that did not come as expected, in array operations for a whole batch."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.net.layout import PacketLayout
from lima2_core.net.table import HISTORY, RequestTable


class Kind(enum.IntEnum):
    """The class of a packet; the names are those of the counters."""

    ACCEPTED = 0
    LATE = 1
    DOUBLED = 2
    SHORT = 3
    FOREIGN = 4
    OUT_OF_RANGE = 5
    STRAY = 6
    OVERRUN = 7
    HOMELESS = 8
    """Its frame has no slot yet; the batch is sorted up to it only."""


@dataclass(frozen=True, slots=True)
class Span:
    """The frame numbers of an acquisition: ``first``, ``first + stride``, up to ``last``."""

    first: int
    last: int
    stride: int


@dataclass(frozen=True, slots=True)
class Sorted:
    """The classes of the first packets of a batch, up to one that has to wait.

    Shapes: ``kinds`` uint8, ``numbers`` (of the request) int64, ``places`` (in the frame) int64,
    ``frames`` int64, all (packets,); the last three mean something where accepted.
    """

    kinds: NDArray[np.uint8]
    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    frames: NDArray[np.int64]
    newest: int
    """The highest frame number, that of the waiting packet included."""
    homeless: int
    """Frame number of the packet that has to wait; -1 if none has."""


def sort_packets(
    headers: NDArray[Any],
    lengths: NDArray[np.uint32],
    layout: PacketLayout,
    span: Span,
    table: RequestTable,
    given: int,
    newest: int,
) -> Sorted:
    """Tell the class of each packet, in the order in which they came.

    Args:
        headers: of `PacketLayout.header_dtype`.
        lengths: bytes of each datagram.
        layout: what is expected.
        span: frame numbers of the acquisition.
        table: the requests, with what has come.
        given: how many requests are known to the listener.
        newest: the highest frame number before this batch.
    """
    kinds = np.full(len(headers), Kind.ACCEPTED, np.uint8)
    frames: NDArray[np.int64] = headers["frame"].astype(np.int64)
    places = headers["packet"].astype(np.int64) - layout.first_packet
    runt = lengths < layout.header_bytes
    right = np.ones(len(headers), np.bool_)
    for number, check in enumerate(layout.checks):
        right &= headers[f"check{number}"] == check.value
    kinds[(frames < span.first) | (frames > span.last)] = Kind.STRAY
    kinds[(frames - span.first) % span.stride != 0] = Kind.STRAY
    kinds[(places < 0) | (places >= layout.packets)] = Kind.OUT_OF_RANGE
    kinds[lengths > layout.packet_bytes] = Kind.FOREIGN
    kinds[lengths < layout.packet_bytes] = Kind.SHORT
    kinds[~right & ~runt] = Kind.FOREIGN

    numbers = np.full(len(headers), -1, np.int64)
    good = np.flatnonzero(kinds == Kind.ACCEPTED)
    kinds[good], numbers[good], running = _sort_good(
        frames[good], places[good], layout, span, table, given, newest
    )
    waiting = np.flatnonzero(kinds == Kind.HOMELESS)
    end = len(headers)
    homeless = -1
    if len(waiting):
        end = int(waiting[0])
        homeless = int(frames[end])
        running = running[: np.searchsorted(good, end) + 1]
    if len(running):
        newest = int(running[-1])
    return Sorted(kinds[:end], numbers[:end], places[:end], frames[:end], newest, homeless)


def _sort_good(
    frames: NDArray[np.int64],
    places: NDArray[np.int64],
    layout: PacketLayout,
    span: Span,
    table: RequestTable,
    given: int,
    newest: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Classes and requests of packets of the acquisition, and the highest frame up to each."""
    done = table.done
    window = np.arange(max(0, done - HISTORY), given)
    known = table.frame[window % table.size].astype(np.int64)
    # A closed frame stays closed, also if a packet from its past asks.
    running = np.maximum.accumulate(np.maximum(frames, newest))
    if len(frames) == 0:
        return np.zeros(0, np.uint8), np.zeros(0, np.int64), running
    kinds = np.full(len(frames), Kind.ACCEPTED, np.uint8)
    if len(window):
        at = np.minimum(np.searchsorted(known, frames), len(known) - 1)
        found = known[at] == frames
        numbers = np.where(found, window[at], -1)
        low, high = int(known[0]), int(known[-1])
    else:
        found = np.zeros(len(frames), np.bool_)
        numbers = np.full(len(frames), -1, np.int64)
        low = high = -1
    closed = frames + 2 * span.stride <= running
    closed |= found & (numbers < done)
    kinds[closed] = Kind.LATE
    # Without a request: not yet given, given and long forgotten, or passed over.
    kinds[~found & (frames < low)] = Kind.LATE
    kinds[~found & (frames > low) & (frames < high)] = Kind.OVERRUN
    kinds[~found & (frames > high) & ~closed] = Kind.HOMELESS

    there = found & table.mask[numbers % table.size, places]
    kinds[there] = Kind.DOUBLED
    # Of several in this batch the first one counts, if it was in time.
    keys = np.where(found, numbers * layout.packets + places, -1 - np.arange(len(frames)))
    _, first, back = np.unique(keys, return_index=True, return_inverse=True)
    origin = first[back]
    again = (origin != np.arange(len(frames))) & (kinds[origin] == Kind.ACCEPTED)
    kinds[again] = Kind.DOUBLED
    return kinds, numbers, running
