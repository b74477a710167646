"""Where every single frame went: one entry per frame index of a run, live and final.

Receivers tell about frames in any order; an entry is settled once it is known what became of its
frame. At the end every index below the number of frames has exactly one class, so that
``expected == sum of all classes``, always.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import PRESENT, Validity

OPEN = 255
"""Code of an entry that is not settled yet."""

_FIRST_CAPACITY = 1024
_BLOCK = 2**16
"""Entries that are looked through at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """What is known of consecutive frames, from index ``first`` on.

    Shapes: ``code``, ``receiver``, ``timestamp_s`` (n,); ``row`` (n, parts), -1 where there is
    none, and for missing parts of frames that are there. ``receiver`` is the one that has the
    frame, -1 if none or each has a part.
    """

    first: int
    code: NDArray[np.uint8]
    receiver: NDArray[np.int16]
    row: NDArray[np.int64]
    timestamp_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.code)


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """A snapshot: frames in each class, frames still open, frames expected (None: no limit)."""

    counts: Mapping[Validity, int]
    open: int
    expected: int | None

    @property
    def lost(self) -> int:
        """Frames that are missing."""
        there = (*PRESENT, Validity.NEVER_SENT, Validity.VETO)
        return sum(count for code, count in self.counts.items() if code not in there)

    @property
    def adds_up(self) -> bool:
        """Whether all classes together are what was expected."""
        return self.expected is None or sum(self.counts.values()) + self.open == self.expected

    def sentence(self) -> str:
        """The verdict, for people."""
        total = sum(self.counts.values()) + self.open
        valid = self.counts.get(Validity.VALID, 0)
        if total == 0:
            return "there are no frames"
        if valid == total:
            return "the only frame is valid" if total == 1 else f"all {total} frames are valid"
        others = [
            f"{count} {code.name.lower().replace('_', ' ')}"
            for code, count in sorted(self.counts.items())
            if count and code is not Validity.VALID
        ]
        if self.open:
            others.append(f"{self.open} still open")
        counted = f"{valid} of {total} frames {'is' if valid == 1 else 'are'} valid"
        return f"{counted}; {', '.join(others)}"


class Ledger:
    """The entries of one run.

    Frames behind the last that anything is known of take no memory, however many were asked for:
    they are open, and never sent once the run has ended.

    Args:
        expected: frames of the run; None if it has no end of its own.
        parts: receivers that each have a part of every frame; 1 if each frame is with one.

    Threads: everything from any thread.
    """

    def __init__(self, expected: int | None, parts: int = 1) -> None:
        self.expected = expected
        self.parts = parts
        self._size = 0
        self._part_code = np.empty((0, parts), np.uint8)
        self._row = np.empty((0, parts), np.int64)
        self._code = np.empty(0, np.uint8)
        self._receiver = np.empty(0, np.int16)
        self._timestamp_s = np.empty(0, np.float64)
        self._front = 0
        self._highest = 0
        self._ended = False
        self._counts = np.zeros(256, np.int64)
        self._lock = threading.Lock()

    @property
    def front(self) -> int:
        """All frames below this index are settled."""
        return self._front

    @property
    def highest(self) -> int:
        """One more than the highest index told of."""
        return self._highest

    @property
    def extent(self) -> int:
        """Nothing is known of the frames from this index on, but that the run has ended or not."""
        return self._size

    def tell(self, receiver: int, rows: NDArray[Any]) -> None:
        """Take what a receiver tells; of a frame told of twice the first telling counts.

        Shapes: (n,) of `lima2_core.data.rows.ROW_RECORD`.
        """
        # Of an index that comes twice in one telling an assignment would keep the last.
        idx, first = np.unique(rows["frame_idx"], return_index=True)
        rows = rows[first][idx >= 0]
        idx = idx[idx >= 0]
        if len(idx) == 0:
            return
        part = receiver if self.parts > 1 else 0
        with self._lock:
            self._reserve(int(idx[-1]) + 1)
            new = self._part_code[idx, part] == OPEN
            idx, rows = idx[new], rows[new]
            self._row[idx, part] = rows["row"]
            self._part_code[idx, part] = rows["code"]
            # A part that is missing has no time; the others have.
            self._timestamp_s[idx] = np.maximum(self._timestamp_s[idx], rows["timestamp_s"])
            if self.parts == 1:
                self._receiver[idx] = receiver
            self._settle(idx)
            self._reach(int(idx[-1]) + 1 if len(idx) else 0)

    def lose(self, indices: NDArray[Any], code: Validity, receiver: int | None = None) -> None:
        """Settle what is open of frames as missing; with parts, only that of ``receiver``.

        Shapes: (n,) frame indices, each once.
        """
        if len(indices) == 0:
            return
        part = slice(None) if self.parts == 1 or receiver is None else receiver
        with self._lock:
            self._reserve(int(indices.max()) + 1)
            codes = self._part_code[indices, part]
            self._part_code[indices, part] = np.where(codes == OPEN, np.uint8(code), codes)
            self._settle(indices)

    def strike(self, receiver: int, row: int, code: Validity) -> NDArray[np.int64]:
        """Count what a receiver has from ``row`` on as missing, though it was told of.

        Returns:
            The frames that this concerns.
        """
        part = receiver if self.parts > 1 else 0
        with self._lock:
            rows, codes = self._row[: self._size, part], self._part_code[: self._size, part]
            struck = (rows >= row) & np.isin(codes, PRESENT)
            if self.parts == 1:
                struck &= self._receiver[: self._size] == receiver
            indices = np.flatnonzero(struck)
            self._part_code[indices, part] = int(code)
            self._settle(indices)
            return indices

    def recover(
        self, receiver: int, indices: NDArray[Any], rows: NDArray[Any], codes: NDArray[np.uint8]
    ) -> None:
        """Give frames that went down with a receiver the classes that were found in its files.

        Shapes: (n,) frame indices, each once; their rows; their classes.
        """
        part = receiver if self.parts > 1 else 0
        with self._lock:
            self._reserve(int(indices.max(initial=-1)) + 1)
            missing = np.isin(self._part_code[indices, part], (OPEN, Validity.RECEIVER_LOST))
            indices, rows = indices[missing], rows[missing]
            self._part_code[indices, part] = codes[missing]
            self._row[indices, part] = rows
            if self.parts == 1:
                self._receiver[indices] = receiver
            self._settle(indices)

    def rows_of(self, receiver: int) -> int:
        """One more than the highest row that a receiver told of."""
        with self._lock:
            here = slice(0, self._size)
            if self.parts > 1:
                rows = self._row[here, receiver]
            else:
                rows = self._row[here, 0][self._receiver[here] == receiver]
            return int(rows.max(initial=-1)) + 1

    def revise(
        self, indices: NDArray[Any], old: Validity, new: Validity, receiver: int | None = None
    ) -> None:
        """Give another class to what is ``old`` of frames; with parts, only that of ``receiver``.

        Shapes: (n,) frame indices, each once.
        """
        part = slice(None) if self.parts == 1 or receiver is None else receiver
        with self._lock:
            indices = indices[indices < self._size]
            codes = self._part_code[indices, part]
            self._part_code[indices, part] = np.where(codes == old, np.uint8(new), codes)
            self._settle(indices)

    def end(self, total: int) -> None:
        """Settle what is open below ``total`` as never sent; there will be no more."""
        with self._lock:
            total = max(total, self._highest)
            self.expected = total
            known = min(total, self._size)
            part_code = self._part_code[:known]
            part_code[part_code == OPEN] = int(Validity.NEVER_SENT)
            self._settle(np.arange(known))
            self._ended = True
            self._highest = total
            if self._front == self._size:
                self._front = total

    def entries(self, first: int, last: int) -> Entries:
        """A copy of the entries from ``first`` to ``last`` - 1."""
        count = max(0, last - first)
        with self._lock:
            here = slice(first, max(first, min(last, self._size)))
            row = _grown(self._row[here], count, -1)
            if self.parts > 1:
                # The row of a missing part of a frame is in a file, but nothing was written to it.
                missing = ~np.isin(self._part_code[here], PRESENT)
                missing &= np.isin(self._code[here], PRESENT)[:, None]
                row[: len(missing)][missing] = -1
            rest = Validity.NEVER_SENT if self._ended else OPEN
            code = _grown(self._code[here], count, rest)
            code[max(0, self._highest - first) :] = OPEN
            return Entries(
                first,
                code,
                _grown(self._receiver[here], count, -1),
                row,
                _grown(self._timestamp_s[here], count, 0),
            )

    def last_sent(self) -> int:
        """One more than the highest index of a frame that was exposed, as far as it is known."""
        with self._lock:
            end = self._size
            while end > 0:  # from behind: it is near, and there may be very many
                first = max(0, end - _BLOCK)
                sent = np.flatnonzero(~np.isin(self._code[first:end], (OPEN, Validity.NEVER_SENT)))
                if len(sent):
                    return first + int(sent[-1]) + 1
                end = first
            return 0

    def incomplete(self, forgiven: Collection[Validity] = (), end: int | None = None) -> int:
        """Frames of which something is there, and something else is missing that was sent.

        Args:
            forgiven: classes of parts that do not matter.
            end: only frames below this index; None for all.
        """
        with self._lock:
            if not self._counts[Validity.PARTIAL]:
                return 0
            here = slice(self._size if end is None else min(end, self._size))
            parts = self._part_code[here][self._code[here] == Validity.PARTIAL]
            if self.parts == 1:
                return len(parts)
            good = (Validity.VALID, Validity.NEVER_SENT, Validity.VETO, *forgiven)
            return int((~np.isin(parts, good)).any(axis=1).sum())

    def open_indices(self, total: int, receiver: int | None = None) -> NDArray[np.int64]:
        """Frames below ``total`` that are not settled; with parts, by that of ``receiver``."""
        with self._lock:
            by_part = self.parts > 1 and receiver is not None
            codes = self._part_code[:, receiver] if by_part else self._code
            known = np.flatnonzero(codes[: min(total, self._size)] == OPEN)
            first = max(self._size, self._highest) if self._ended else self._size
            return np.concatenate([known, np.arange(first, max(first, total))])

    def summary(self) -> LedgerSummary:
        with self._lock:
            numbers = self._counts.copy()
            if self._ended:
                numbers[Validity.NEVER_SENT] += max(0, self._highest - self._size)
            counts = {code: int(numbers[code]) for code in Validity if numbers[code]}
            expected = self.expected
            total = expected if expected is not None else self._highest
        return LedgerSummary(counts, max(0, total - sum(counts.values())), expected)

    def _settle(self, idx: NDArray[Any]) -> None:
        """Give frames their class, once all their parts are known."""
        parts = self._part_code[idx]
        known = (parts != OPEN).all(axis=1)
        idx, parts = idx[known], parts[known]
        old = self._code[idx]
        new = _whole(parts)
        self._code[idx] = new
        np.subtract.at(self._counts, old[old != OPEN], 1)
        np.add.at(self._counts, new, 1)
        self._reach(int(idx.max()) + 1 if len(idx) else 0)
        while self._front < self._size:
            ahead = self._code[self._front : min(self._size, self._front + _BLOCK)] == OPEN
            if ahead.any():
                self._front += int(ahead.argmax())
                return
            self._front += len(ahead)

    def _reach(self, size: int) -> None:
        """Note that there are so many frames, if not more."""
        self._highest = max(self._highest, size)
        if self.expected is not None:
            self.expected = max(self.expected, self._highest)

    def _reserve(self, size: int) -> None:
        """Have entries of the first ``size`` frames."""
        if size > len(self._code):
            capacity = max(size, 2 * len(self._code), _FIRST_CAPACITY)
            self._part_code = _grown(self._part_code, capacity, OPEN)
            self._row = _grown(self._row, capacity, -1)
            self._code = _grown(self._code, capacity, OPEN)
            self._receiver = _grown(self._receiver, capacity, -1)
            self._timestamp_s = _grown(self._timestamp_s, capacity, 0)
        if size > self._size:
            if self._ended:
                late = slice(self._size, max(self._size, min(size, self._highest)))
                self._part_code[late] = self._code[late] = int(Validity.NEVER_SENT)
                self._counts[Validity.NEVER_SENT] += late.stop - late.start
            self._size = size


def _whole(parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The class of frames by those of their parts.

    Shapes: (n, parts) -> (n,). A frame of which something is there and something is not is
    PARTIAL; one of which nothing is there gets the gravest cause.
    """
    if parts.shape[1] == 1:
        return parts[:, 0]
    there = np.isin(parts, PRESENT)
    whole = np.where(there.any(axis=1), np.uint8(Validity.PARTIAL), parts.max(axis=1))
    return np.where((parts == Validity.VALID).all(axis=1), np.uint8(Validity.VALID), whole)


def _grown(old: NDArray[Any], capacity: int, fill: int) -> NDArray[Any]:
    new = np.full((capacity, *old.shape[1:]), fill, old.dtype)
    new[: len(old)] = old
    return new
