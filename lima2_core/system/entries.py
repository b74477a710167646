"""What became of the frames of a source: those of the detector, or sums of several."""

from __future__ import annotations

import numpy as np

from lima2_core.data.frame import PRESENT, Validity
from lima2_core.system.ledger import OPEN, Entries, Ledger
from lima2_core.system.run import SystemRun

MOST = 1_000_000
"""Frames of the detector that are looked at for one answer."""


def ledger_of(run: SystemRun, source: str) -> Ledger | None:
    """The books on the frames of a source, empty for those of the detector; None without books."""
    if source in run.view.saved:
        return run.view.saved[source].ledger
    if not source:
        return run.ledger
    return run.ledger if run.layout.depth_of(source) == 1 else None


def end_of(run: SystemRun, source: str) -> int:
    """One more than the last frame that is expected, or known."""
    ledger = ledger_of(run, source)
    if ledger is not None:
        return max(ledger.highest, ledger.expected or 0)
    return run.accessible(source)


def entries_of(run: SystemRun, source: str, first: int, last: int) -> Entries:
    """The entries from ``first`` to ``last`` - 1, or to as many as can be looked at at once.

    Sums that are not saved have no books of their own: what became of their frames tells, where
    it is known which receiver gets which frame; else they stay open, up to the last one that a
    receiver made before it ended.
    """
    ledger = ledger_of(run, source)
    if ledger is not None:
        return ledger.entries(first, min(last, first + MOST))
    depth = run.layout.depth_of(source)
    return _of_sums(run, depth, first, min(last, first + max(1, MOST // depth)))


def _of_sums(run: SystemRun, depth: int, first: int, last: int) -> Entries:
    """Shapes: inside, ``codes`` and ``times_s`` are (sums, depth)."""
    n = len(run.members) if run.layout.parts == 1 else 1
    idx = np.arange(first, last)
    receiver = idx % n
    codes = np.full((len(idx), depth), OPEN, np.uint8)
    times_s = np.full((len(idx), depth), np.inf)
    if len(idx) and run.layout.known:
        # Sum k of receiver r has the index k * n + r, and its own frames: contract 03, 4.4.
        frames = ((idx // n * depth)[:, None] + np.arange(depth)) * n + receiver[:, None]
        end = max(run.ledger.highest, run.ledger.expected or 0)
        known = run.ledger.entries(min(int(frames[0].min()), end), min(int(frames.max()) + 1, end))
        here = frames < end
        codes[here] = known.code[frames[here] - known.first]
        times_s[here] = known.timestamp_s[frames[here] - known.first]
        if run.ledger.expected is not None:
            codes[~here] = Validity.NEVER_SENT
    there = np.isin(codes, PRESENT)
    # A sum of no frame counts as its first one does.
    code = np.where(there.any(axis=1), np.uint8(Validity.PARTIAL), codes[:, 0])
    code[(codes == Validity.VALID).all(axis=1)] = Validity.VALID
    code[(codes == OPEN).any(axis=1)] = OPEN
    if not run.layout.known:
        for number, member in enumerate(run.members):
            if member.ended:
                made = member.counter("nb_frames_processed")
                never = (receiver == number) & (idx // n >= made)
                code[never] = Validity.RECEIVER_LOST if member.lost else Validity.NEVER_SENT
    begun_s = np.where(there, times_s, np.inf).min(axis=1, initial=np.inf)
    whole = run.layout.parts == 1
    return Entries(
        first,
        code.astype(np.uint8),
        (receiver if whole else np.full(len(idx), -1)).astype(np.int16),
        np.full((len(idx), run.layout.parts), -1, np.int64),
        np.where(np.isfinite(begun_s), begun_s, 0.0),
    )
