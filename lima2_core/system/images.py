"""Whole frames of a run, fetched from the receivers that have them.

A gap is a frame of zeros, or of what camera or pipeline say that empty pixels read.
"""

from __future__ import annotations

import numpy as np

from lima2_core.data.frame import PRESENT, Frame, FrameSpec, Validity
from lima2_core.errors import Lima2Error, NotAvailableError, ParamError
from lima2_core.ids import FrameIdx
from lima2_core.system.entries import entries_of, ledger_of
from lima2_core.system.layout import INPUT_SOURCE
from lima2_core.system.ledger import OPEN, Ledger
from lima2_core.system.member import Member
from lima2_core.system.run import SystemRun

_MAIN = "frame"
_LAST = 256
"""Among so many frames at the end of the ledger the newest is looked for."""


def main_source(run: SystemRun) -> str:
    """The frames that a run is about: the processed ones, else those of the camera.

    Raises:
        NotAvailableError: the run keeps no frames.
    """
    sources = run.view.sources
    for name in (_MAIN, INPUT_SOURCE, *sources):
        if name in sources:
            return name
    raise NotAvailableError("this run keeps no frames that could be looked at")


def frame_of(run: SystemRun, source: str, idx: int, step: int = 1) -> Frame:
    """A frame by its index in the acquisition; of its pixels one in ``step``, each way.

    The source is one of ``run.view.sources``, empty for the main one; index -1 is the newest frame
    that can be had at once.

    Raises:
        NotAvailableError: not available yet, not any more, or no such source.
        UnreachableError: the receiver does not answer.
    """
    source = source or main_source(run)
    spec = run.view.sources.get(source)
    if spec is None:
        known = ", ".join(run.view.sources) or "none"
        raise NotAvailableError(f"there are no frames {source!r}; there are: {known}", path=source)
    if idx < -1:
        raise ParamError("give an index from 0 on, or -1 for the newest", path="idx")
    if idx == -1:
        if run.layout.parts == 1:
            return _newest(run, source, step)
        idx = _newest_whole(run, source)
    validity, owner = _known(run, source, idx)
    if validity not in PRESENT:
        return _blank(spec, idx, step, run.layout.fill(source))
    if run.layout.parts > 1:
        return _from_parts(run, source, idx, validity, spec, step)
    return _fetch(run.members[owner], source, idx, step)


def _ledger_of(run: SystemRun, source: str) -> Ledger | None:
    """The books that tell which frames of a source can be had; None without books."""
    if run.layout.parts > 1 and run.layout.depth_of(source) == 1:
        return run.ledger  # it knows of frames before they are saved
    return ledger_of(run, source)


def _known(run: SystemRun, source: str, idx: int) -> tuple[Validity, int]:
    """The class of a frame, and the receiver that has it, -1 if each has a part.

    Raises:
        NotAvailableError: nothing is known of it yet, or there will be no such frame.
    """
    ledger = _ledger_of(run, source)
    if ledger is None:  # sums that are not saved: each receiver has every n-th
        entry = entries_of(run, source, idx, idx + 1)
        code, owner = int(entry.code[0]), int(entry.receiver[0])
        if code == OPEN or (code not in PRESENT and idx >= run.accessible(source)):
            code = Validity.VALID  # who should have it knows better
        return Validity(code), owner
    if idx < ledger.highest:
        entry = ledger.entries(idx, idx + 1)
        code = int(entry.code[0])
        if code != OPEN:
            return Validity(code), int(entry.receiver[0])
    if ledger.expected is not None and idx >= ledger.expected:
        raise NotAvailableError(
            f"there is no frame {idx}: the run has {ledger.expected}", frame_idx=idx
        )
    raise NotAvailableError(f"frame {idx} is not available yet", frame_idx=idx)


def _fetch(member: Member, source: str, idx: int, step: int) -> Frame:
    if member.lost:
        raise NotAvailableError(f"frame {idx} was with a receiver that is gone: {member.lost}")
    return member.port.frame(source, idx, step)


def _newest(run: SystemRun, source: str, step: int) -> Frame:
    """The newest frame of the receiver that told of the last one, else of the next that has any."""
    first = max(0, run.ledger.highest - _LAST)
    entries = run.ledger.entries(first, run.ledger.highest)
    there = entries.receiver[np.isin(entries.code, PRESENT)]
    alive = [n for n, member in enumerate(run.members) if not member.lost]
    alive.sort(key=lambda n: n == there[-1] if len(there) else False, reverse=True)
    failure: Lima2Error = NotAvailableError("the first frame is not available yet", frame_idx=-1)
    for n in alive:
        try:
            return run.members[n].port.frame(source, -1, step)
        except NotAvailableError as error:
            failure = error
    raise failure


def _newest_whole(run: SystemRun, source: str) -> int:
    """The newest frame of whose parts all is known.

    Raises:
        NotAvailableError: there is none.
    """
    ledger = _ledger_of(run, source)
    end = run.accessible(source) if ledger is None else min(ledger.front, ledger.last_sent())
    first = max(0, end - _LAST)
    told = entries_of(run, source, first, end) if ledger is None else ledger.entries(first, end)
    there = np.flatnonzero(np.isin(told.code, PRESENT))
    if len(there) == 0:
        text = "the last frames are missing" if end else "the first frame is not available yet"
        raise NotAvailableError(text, frame_idx=-1)
    return first + int(there[-1])


def _from_parts(
    run: SystemRun, source: str, idx: int, validity: Validity, spec: FrameSpec, step: int
) -> Frame:
    """Put a frame together of the parts that the receivers have; what is lost reads as fill."""
    places = run.layout.placements(source)
    # Pixels can be left out by the receivers where all parts begin with one that is kept.
    early = step if all(p.row % step == 0 and p.col % step == 0 for p in places) else 1
    whole = np.full(spec.shape, run.layout.fill(source), spec.dtype)[:, ::early, ::early]
    missing = 0
    for member, place in zip(run.members, places, strict=True):
        try:
            part = None if member.lost else member.port.frame(source, idx, early).data
        except NotAvailableError:
            # A part that never was, if the books say that some are missing; else it is gone.
            missing += 1
            if validity is not Validity.PARTIAL or missing == len(places):
                raise
            part = None
        if part is not None:
            _, rows, cols = part.shape
            row, col = place.row // early, place.col // early
            whole[:, row : row + rows, col : col + cols] = part
    late = step // early
    return Frame(FrameIdx(idx), whole[:, ::late, ::late], validity=validity)


def _blank(spec: FrameSpec, idx: int, step: int, fill: float = 0) -> Frame:
    blank = np.full(spec.shape, fill, spec.dtype)[:, ::step, ::step]
    return Frame(FrameIdx(idx), blank, validity=Validity.DROPPED)
