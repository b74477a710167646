"""The queue between a listener and its receiver: a table in memory that both map.

A request is a row with a frame number and a slot. The listener fills in what came of the frame;
once it counts the row as done, the request has become its completion. Requests are done in the
order in which they were given. A number in an eventfd says how many rows were given, another one
how many were done: the kernel orders the writes before the reads.

All of it survives the listener, so that another one can go on where it ended.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lima2_core.net.layout import PacketLayout
from lima2_core.net.stats import NAMES, Counts, counts_from

HISTORY: Final = 32
"""Rows that are kept after they are done, to tell doubled packets from late ones."""

_WORDS: Final = 64
_GIVEN: Final = len(NAMES)
_DONE: Final = _GIVEN + 1
_OVERRUN: Final = _DONE + 1
_BEAT: Final = _OVERRUN + 1
_WORD: Final = 8


def row_dtype(layout: PacketLayout) -> np.dtype[Any]:
    """One request and what became of it.

    ``packets`` were accepted, ``mask`` says which; ``first_ns`` is the time of the first one,
    since 1970, and ``header`` its header. ``overrun`` tells that the others may be missing because
    there was no slot for frames before.
    """
    return np.dtype(
        [
            ("frame", np.uint64),
            ("slot", np.uint32),
            ("packets", np.uint32),
            ("first_ns", np.int64),
            ("header", np.uint8, (layout.header_bytes,)),
            ("mask", np.bool_, (layout.packets,)),
            ("overrun", np.bool_),
        ],
        align=True,
    )


class RequestTable:
    """One side's view of the table.

    Args:
        fd: the shared memory, which this object does not close.
        rows: how many there are; requests under way are at most ``rows - HISTORY``.

    Shapes: ``frame``, ``slot``, ``packets``, ``first_ns`` (rows,); ``header`` (rows, header_bytes);
    ``mask`` (rows, packets).
    """

    def __init__(self, fd: int, layout: PacketLayout, rows: int) -> None:
        self.size = rows
        dtype = row_dtype(layout)
        self._memory = mmap.mmap(fd, _WORDS * _WORD + rows * dtype.itemsize)
        self.words = memoryview(self._memory)[: _WORDS * _WORD].cast("q")
        """The counters in the order of `NAMES`, then those of the rows,
        and the signs of life."""
        self.rows: NDArray[Any] = np.frombuffer(self._memory, dtype, rows, _WORDS * _WORD)
        self.frame: NDArray[np.uint64] = self.rows["frame"]
        self.slot: NDArray[np.uint32] = self.rows["slot"]
        self.packets: NDArray[np.uint32] = self.rows["packets"]
        self.first_ns: NDArray[np.int64] = self.rows["first_ns"]
        self.header: NDArray[np.uint8] = self.rows["header"]
        self.mask: NDArray[np.bool_] = self.rows["mask"]

    @staticmethod
    def make_memory(layout: PacketLayout, rows: int) -> int:
        """Anonymous shared memory for a table; the caller closes the file descriptor."""
        fd = os.memfd_create("lima2-requests", os.MFD_CLOEXEC)
        os.ftruncate(fd, _WORDS * _WORD + rows * row_dtype(layout).itemsize)
        return fd

    @property
    def given(self) -> int:
        """Rows given since the acquisition began."""
        return self.words[_GIVEN]

    @property
    def done(self) -> int:
        """Rows done since the acquisition began."""
        return self.words[_DONE]

    @done.setter
    def done(self, count: int) -> None:
        self.words[_DONE] = count

    @property
    def overrun(self) -> bool:
        """Whether the kernel dropped packets for want of slots, and none came in turn since."""
        return bool(self.words[_OVERRUN])

    @overrun.setter
    def overrun(self, yes: bool) -> None:
        self.words[_OVERRUN] = yes

    @property
    def beat(self) -> int:
        """Counts on as long as the listener is well."""
        return self.words[_BEAT]

    def give_sign(self) -> None:
        """Say that the listener is well; called by it alone."""
        self.words[_BEAT] += 1

    def clear(self) -> None:
        """Forget all requests and counts; only while no listener works on them."""
        for word in range(_BEAT):
            self.words[word] = 0

    def give(self, requests: Sequence[tuple[int, int]]) -> None:
        """Write rows for pairs of frame number and slot."""
        given = self.given
        for number, (frame, slot) in enumerate(requests, given):
            row = number % self.size
            self.rows[row] = np.zeros((), self.rows.dtype)
            self.frame[row] = frame
            self.slot[row] = slot
        self.words[_GIVEN] = given + len(requests)

    def completions(self, first: int, end: int) -> NDArray[Any]:
        """Copies of the rows that were done from ``first`` up to ``end``."""
        return self.rows[np.arange(first, end) % self.size]

    def counts(self) -> Counts:
        """Snapshot of the counters; exact while nothing comes."""
        return counts_from(self.words[: len(NAMES)].tolist())


def read_bell(fd: int) -> int:
    """Take the number out of a non-blocking eventfd; 0 if there is none."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0
