"""What became of every frame of a run, and its records in frame order, as receivers tell it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import PRESENT, Validity
from lima2_core.data.rows import LEDGER
from lima2_core.errors import PartialFrameError
from lima2_core.system.layout import Layout
from lima2_core.system.ledger import Ledger
from lima2_core.system.merge import RecordMerger
from lima2_core.system.merge_parts import PartMerger
from lima2_core.system.outputs import Survivors
from lima2_core.system.ports import RunStatus, UnreachableError

ROWS = "rows/"
"""Prefix of the streams that tell which saved frame is in which row."""

DISORDER = 256
"""Where nobody knows beforehand who gets a frame, it counts as lost with a lost receiver once all
others have told of frames so far behind it: they may deliver out of order, but not by so much."""

_AHEAD = 2**16
"""So many frames of a receiver that is gone are settled before the others come to them; of a very
long run the rest waits for its end."""

_LOSS_CODES = {
    "overrun": Validity.OVERRUN,
    "camera": Validity.DROPPED,
    PartialFrameError.code: Validity.RECEIVER_LOST,
    UnreachableError.code: Validity.RECEIVER_LOST,
}
"""What frames count as that a receiver did not take because of an error; by its code."""

Gone = Mapping[int, Validity]
"""Receivers from which nothing more comes, and the class of the frames that they leave open."""


class Books:
    """Ledgers and merged records of one run.

    Threads: one at a time; the ledgers and streams themselves may be read from any.
    """

    def __init__(self, layout: Layout, n_receivers: int, expected: int | None) -> None:
        self.ledger = Ledger(expected, layout.parts)
        """Of the frames as they came from the detector."""
        self._layout = layout
        self._n = n_receivers
        self._expected = expected
        self.saved = {name: Ledger(self.expected_of(name), layout.parts) for name in layout.saved}
        """Of the frames of each saved source."""
        self.mergers: dict[str, RecordMerger | PartMerger] = {
            name: PartMerger(spec, layout.reaches[name])
            if name in layout.reaches
            else RecordMerger(spec)
            for name, spec in layout.streams.items()
        }
        self._told = [0] * n_receivers
        """One more than the highest frame that each receiver told of."""
        self._seen = [0] * n_receivers
        """The same, of frames of which something came to it."""

    def expected_of(self, name: str) -> int | None:
        """Frames of a source, or frames that give records to a stream; None if not known."""
        if self._expected is None or self._layout.depth_of(name) == 1:
            return self._expected
        return self.groups(name, self._expected) if self._layout.known else None

    def groups(self, name: str, frames: int) -> int:
        """Sums that ``frames`` of the detector are put into, counted over all receivers."""
        depth = self._layout.depth_of(name)
        n = 1 if self._layout.parts > 1 else self._n
        # Receiver r of n gives the sums r, n + r, 2 n + r ...: contract 03, 4.4.
        shares = [-(-max(0, frames - r) // n) for r in range(n)]
        return max(((-(-share // depth) - 1) * n + r + 1 for r, share in enumerate(shares)))

    def tell(self, receiver: int, records: Mapping[str, NDArray[Any]]) -> None:
        """Take the news of a receiver."""
        if LEDGER in records:
            rows = records[LEDGER]
            self.ledger.tell(receiver, rows)
            if len(rows):
                self._told[receiver] = max(self._told[receiver], _end_of(rows))
                came = rows[rows["code"] != Validity.PACKET_LOSS]
                self._seen[receiver] = max(self._seen[receiver], _end_of(came))
            for name, ledger in self.saved.items():
                if self._layout.depth_of(name) == 1:  # gaps that no saved row stands for
                    ledger.tell(receiver, rows[rows["row"] < 0])
        for name, ledger in self.saved.items():
            if ROWS + name in records:
                ledger.tell(receiver, records[ROWS + name])
        for name, merger in self.mergers.items():
            if name in records:
                merger.tell(receiver, records[name])

    def settle(self, gone: Gone) -> None:
        """Let nobody wait for frames and records that will not come."""
        if gone:
            for name, ledger in (("", self.ledger), *self.saved.items()):
                self._settle_frames(name, ledger, gone, self._near(name))
        for name, merger in self.mergers.items():
            if isinstance(merger, PartMerger):
                self._settle_parts(name, merger, gone)
            else:
                self._settle_records(name, merger, gone)

    def _near(self, name: str) -> int:
        """Frames of a source from this index on are far from any that was told of."""
        told = max(self._told) + _AHEAD
        if name and self._layout.depth_of(name) > 1:
            told = self.groups(name, told)
        expected = self.expected_of(name) if name else self._expected
        if expected is not None:
            return min(told, expected)
        return self.saved[name].highest if name else self.ledger.highest

    def recover(self, receiver: int, source: str, left: Survivors) -> None:
        """Count what a lost receiver has in its files, though it did not tell of it.

        Where neither a row nor the file tells which frame it holds, such frames stay lost.
        """
        ledger = self.saved[source]
        told = ledger.rows_of(receiver)
        if self._layout.depth_of(source) > 1 or left.rows <= told or left.codes is None:
            return
        found = np.arange(told, left.rows)
        codes = left.codes
        if self._layout.known:
            indices = found if self._layout.parts > 1 else found * self._n + receiver
        elif left.untold is not None and len(left.untold) == len(found):
            indices = left.untold
        else:
            return
        ledger.recover(receiver, indices, found, codes)
        self._seen[receiver] = max(self._seen[receiver], int(indices.max()) + 1)
        if source == self._main:
            kept = codes != Validity.VETO  # of frames that were not to be saved nothing is left
            self.ledger.recover(receiver, indices[kept], found[kept], codes[kept])

    def strike(self, receiver: int, source: str, row: int, code: Validity) -> None:
        """Count rows of a saved source from ``row`` on as missing: they are not in the files."""
        indices = self.saved[source].strike(receiver, row, code)
        if source == self._main and self._layout.depth_of(source) == 1:
            for there in PRESENT:
                self.ledger.revise(indices, there, code, receiver)

    @property
    def _main(self) -> str:
        """The saved source that decides what became of the frames."""
        return "frame" if "frame" in self.saved else next(iter(self.saved))

    def end(self, exposed: int, exact: bool, gone: Gone) -> None:
        """Give every frame its class; nothing more will come.

        Args:
            exposed: frames that the detector has exposed, as far as it is known.
            exact: whether it was asked at its end.
            gone: as for `settle`.
        """
        self._end(max(exposed, *self._told), exposed, exact, gone)

    def break_off(self, gone: Gone) -> None:
        """Give every frame its class where the detector failed; nothing more will come.

        It has sent no fewer frames than up to the last of which a receiver saw something: what is
        missing of these was lost on its way, and what would have followed was never sent.
        """
        seen = max(self._seen)
        self._end(seen, seen, True, gone, failed=True)

    def _end(self, sent: int, exposed: int, exact: bool, gone: Gone, failed: bool = False) -> None:
        code = _gravest(gone)
        total = self._expected
        if total is None:
            total = max(self.ledger.highest, exposed if exact else 0)
        for name, ledger in (("", self.ledger), *self.saved.items()):
            whole = name == "" or self._layout.depth_of(name) == 1
            end = total if whole else self.expected_of(name) or ledger.highest
            border = min(sent if whole else self.groups(name, sent), end)
            if exact:  # what was exposed has another cause than that it was not
                self._settle_frames(name, ledger, _faults(gone), border)
            else:
                self._settle_frames(name, ledger, gone, end)
            ledger.lose(ledger.open_indices(border), code)
            ledger.end(end)
            behind = np.arange(border, min(end, ledger.extent))
            if exact:  # what a lost receiver would have got, had it been exposed
                ledger.revise(behind, code, Validity.NEVER_SENT)
            if failed:
                _part_at(ledger, np.arange(border), behind, gone, whole)
        for name, merger in self.mergers.items():
            due = self.ledger.last_sent()
            if self._layout.depth_of(name) > 1:
                due = self.groups(name, due) if self._layout.known else merger.highest
            merger.end(due)

    def _settle_frames(self, name: str, ledger: Ledger, gone: Gone, end: int) -> None:
        """Settle frames below ``end`` that were for receivers from which nothing more comes."""
        summed = name != "" and self._layout.depth_of(name) > 1
        if self._layout.known or summed:
            for receiver, code in gone.items():
                is_open = ledger.open_indices(end, receiver)
                if self._layout.parts == 1:
                    is_open = is_open[is_open % self._n == receiver]
                ledger.lose(is_open, code, receiver)
            return
        code = _gravest(gone)
        if code is Validity.NEVER_SENT:
            return  # who ended well has told of all that it had
        passed = [told for n, told in enumerate(self._told) if n not in gone]
        ledger.lose(ledger.open_indices(max(0, min(passed, default=0) - DISORDER)), code)

    def _settle_records(self, name: str, merger: RecordMerger, gone: Gone) -> None:
        """Make records for frames that are settled and have none coming."""
        if self._layout.depth_of(name) > 1:
            is_open = merger.open_indices(merger.highest)
            merger.miss(is_open[np.isin(is_open % self._n, list(gone))])
            return
        is_open = merger.open_indices(self.ledger.front)
        if len(is_open) == 0:
            return
        entries = self.ledger.entries(int(is_open[0]), int(is_open[-1]) + 1)
        place = is_open - entries.first
        without = (entries.row[place, 0] < 0) | np.isin(entries.receiver[place], list(gone))
        merger.miss(is_open[without])

    def _settle_parts(self, name: str, merger: PartMerger, gone: Gone) -> None:
        """Make records for the parts of frames that are settled and have none coming."""
        for receiver, part in enumerate(merger.parts):
            if self._layout.depth_of(name) > 1:
                if receiver in gone:
                    part.miss(part.open_indices(merger.highest))
                continue
            is_open = part.open_indices(self.ledger.front)
            if len(is_open) and receiver not in gone:
                entries = self.ledger.entries(int(is_open[0]), int(is_open[-1]) + 1)
                is_open = is_open[entries.row[is_open - entries.first, receiver] < 0]
            part.miss(is_open)
        merger.merge()

    def accessible(self, source: str, ended: Callable[[int], bool], processed: list[int]) -> int:
        """Frames of a source below this index can be asked for; gaps counted.

        Args:
            source: its name.
            ended: whether a receiver has ended.
            processed: sums that each receiver has made.
        """
        if self._layout.depth_of(source) == 1:
            return self.ledger.front
        if source in self.saved:
            return self.saved[source].front
        if self._layout.parts > 1:
            alive = [count for n, count in enumerate(processed) if not ended(n)]
            return min(alive) if alive else max(processed)
        following = [count * self._n + r for r, count in enumerate(processed)]
        coming = [idx for r, idx in enumerate(following) if not ended(r)]
        if coming:
            return min(coming)
        return max(0, max(following) - self._n + 1)


def _end_of(rows: NDArray[Any]) -> int:
    """One more than the highest frame that is told of."""
    return int(rows["frame_idx"].max(initial=-1)) + 1


def _part_at(
    ledger: Ledger, before: NDArray[Any], behind: NDArray[Any], gone: Gone, whole: bool
) -> None:
    """Part what was lost from what was never sent, at the first frame that nobody saw.

    Receivers that ended well left open what they did not see, or took it for lost. A sum that was
    not made is no loss of its own: its frames tell.
    """
    if whole:
        ledger.revise(before, Validity.NEVER_SENT, Validity.PACKET_LOSS)
    for code in {Validity.PACKET_LOSS, *gone.values()}:
        ledger.revise(behind, code, Validity.NEVER_SENT)


def _faults(gone: Gone) -> Gone:
    """Receivers that did not end well."""
    return {receiver: code for receiver, code in gone.items() if code is not Validity.NEVER_SENT}


def _gravest(gone: Gone) -> Validity:
    """What frames count as that nobody told of."""
    causes = set(_faults(gone).values())
    if Validity.RECEIVER_LOST in causes:
        return Validity.RECEIVER_LOST
    return max(causes, default=Validity.NEVER_SENT)


def left_open(status: RunStatus) -> Validity:
    """What became of the frames that a receiver has not told of at its end."""
    if not status.error:
        return Validity.NEVER_SENT
    return _LOSS_CODES.get(status.error_code, Validity.PROCESSING_FAULT)
