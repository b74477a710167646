"""Which receiver takes which frame, where the camera itself deals them out."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lima2_core.ids import AcqId, FrameIdx, ReceiverIdx

DispatchMode = Literal["round_robin", "predictive_random", "full_random"]


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


def keeps_rows(mode: DispatchMode, share: Share) -> bool:
    """Whether everybody knows beforehand who takes which frame.

    Then a missing frame keeps its row, so that row k of receiver r stays frame k * n + r for
    every reader; else rows are named by the frame index stream, and a missing frame has none.
    """
    return mode == "round_robin" or share.n_receivers == 1


def frames_of(
    share: Share, mode: DispatchMode, acq_id: AcqId, *, first: int = 0
) -> Iterator[FrameIdx]:
    """Indices of the frames that one receiver takes, without end, from frame ``first``.

    ``round_robin`` deals in turn. ``predictive_random`` repeats a fixed sequence of 2 n n
    receivers (contract 03, 6.2). ``full_random`` draws from a generator seeded by the
    acquisition, so that all receivers agree without talking to each other.
    """
    if share.n_receivers == 1:
        owners = _always_first()
    elif mode == "round_robin":
        owners = _in_turn(share.n_receivers)
    elif mode == "predictive_random":
        owners = _predictive(share.n_receivers)
    else:
        owners = _drawn(share.n_receivers, acq_id)
    for idx, owner in enumerate(owners):
        if owner == share.receiver and idx >= first:
            yield FrameIdx(idx)


def _always_first() -> Iterator[int]:
    while True:
        yield 0


def _in_turn(n: int) -> Iterator[int]:
    while True:
        yield from range(n)


def _predictive(n: int) -> Iterator[int]:
    sequence = [owner for i in range(n) for j in range(n) for owner in (i, j)]
    while True:
        yield from sequence


def _drawn(n: int, acq_id: AcqId) -> Iterator[int]:
    try:
        seed = uuid.UUID(acq_id).int
    except ValueError:
        seed = int.from_bytes(acq_id.encode(), "big")
    generator = np.random.default_rng(seed)
    while True:
        yield from generator.integers(0, n, size=4096).tolist()
