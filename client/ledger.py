"""What became of every single frame of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.errors import DecodeError
from client.frames import NOT_LOST, OPEN, Validity


def counts_of(text: str) -> Mapping[Validity, int]:
    """Frames in each class, as a device tells them; those that are empty are left out.

    Raises:
        DecodeError: it is something else.
    """
    try:
        told = dict(json.loads(text))
        found = {code: int(told.get(code.name.lower(), 0)) for code in Validity}
    except (ValueError, TypeError) as error:
        raise DecodeError(f"This counts no frames: {error}") from error
    return {code: count for code, count in found.items() if count}


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """A snapshot of all frames, from index 0 on.

    Shapes: ``code``, ``receiver``, ``timestamp_s`` (frames,); ``row`` (frames, parts). Codes are
    those of `Validity`, and `OPEN`; ``receiver`` is -1 where there is none or each has a part;
    ``row`` is the place in the files of the receiver, -1 where there is none.
    """

    code: NDArray[np.uint8]
    receiver: NDArray[np.int16]
    row: NDArray[np.int64]
    timestamp_s: NDArray[np.float64]
    verdict: str = ""
    """What became of them, in a sentence."""

    def __len__(self) -> int:
        return len(self.code)

    @property
    def counts(self) -> Mapping[Validity, int]:
        """Frames in each class; those that are empty are left out."""
        found = np.bincount(self.code, minlength=OPEN + 1)
        return {code: int(found[code]) for code in Validity if found[code]}

    @property
    def open(self) -> int:
        """Frames of which nothing is known yet."""
        return int(np.count_nonzero(self.code == OPEN))

    @property
    def lost(self) -> int:
        """Frames that are missing."""
        return sum(count for code, count in self.counts.items() if code not in NOT_LOST)

    @property
    def complete(self) -> bool:
        """Whether every frame is there, or was never meant to be."""
        return not self.lost and not self.open

    def where(self, *codes: Validity) -> NDArray[np.int64]:
        """Indices of the frames of these classes; without any: of all that are lost."""
        if codes:
            return np.flatnonzero(np.isin(self.code, codes))
        return np.flatnonzero(~np.isin(self.code, (*NOT_LOST, OPEN)))

    def __str__(self) -> str:
        return self.verdict or f"{len(self)} frames, {self.lost} lost, {self.open} open"
