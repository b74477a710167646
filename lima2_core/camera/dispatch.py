"""Which receiver takes which frame, where the camera itself deals them out."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lima2_core.ids import AcqId, FrameIdx, ReceiverIdx

DispatchMode = Literal["round_robin", "predictive_random", "full_random", "partial_frame"]

_WORD = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Share:
    """The place of one receiver among all of a system."""

    receiver: ReceiverIdx = ReceiverIdx(0)
    n_receivers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.receiver < self.n_receivers:
            raise ValueError(f"no receiver {self.receiver} among {self.n_receivers}")

    def count(self, nb_frames: int) -> int:
        """Frames of this receiver out of ``nb_frames`` dealt out in turn."""
        return max(0, -(-(nb_frames - self.receiver) // self.n_receivers))

    def strip(self, rows: int) -> tuple[int, int]:
        """First and end of the image rows of this receiver, out of ``rows`` split evenly."""
        n = self.n_receivers
        return self.receiver * rows // n, (self.receiver + 1) * rows // n


def frames_share(mode: DispatchMode, share: Share) -> Share:
    """The place of a receiver among those that share the frames out: alone, if all get all."""
    return Share() if mode == "partial_frame" else share


def keeps_rows(mode: DispatchMode, share: Share) -> bool:
    """Whether everybody knows beforehand who takes which frame.

    Then a missing frame keeps its row, so that row k of receiver r stays frame k * n + r for
    every reader; else rows are named by the frame index stream, and a missing frame has none.
    """
    return mode in ("round_robin", "partial_frame") or share.n_receivers == 1


def frames_of(
    share: Share, mode: DispatchMode, acq_id: AcqId, *, first: int = 0
) -> Iterator[FrameIdx]:
    """Indices of the frames that one receiver takes, without end, from frame ``first``.

    ``round_robin`` deals in turn. ``predictive_random`` repeats a fixed sequence of 2 n n
    receivers (contract 03, 6.2). ``full_random`` draws from the id of the acquisition, so that
    all receivers agree without talking to each other. ``partial_frame`` gives a part of every
    frame to everybody.
    """
    share = frames_share(mode, share)
    if keeps_rows(mode, share):
        indices: Iterator[int] = itertools.count(
            first + (share.receiver - first) % share.n_receivers, share.n_receivers
        )
    else:
        n = share.n_receivers
        owners = _predictive(n) if mode == "predictive_random" else _drawn(n, acq_id)
        indices = (
            idx for idx, owner in enumerate(owners) if owner == share.receiver and idx >= first
        )
    return map(FrameIdx, indices)


def _predictive(n: int) -> Iterator[int]:
    return itertools.cycle([owner for i in range(n) for j in range(n) for owner in (i, j)])


def _drawn(n: int, acq_id: AcqId) -> Iterator[int]:
    # A hash is the same on every computer and in every version of every library.
    for block in itertools.count():
        digest = hashlib.blake2b(f"{acq_id} {block}".encode()).digest()
        for (number,) in _WORD.iter_unpack(digest):
            yield number * n >> 32
