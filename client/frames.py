"""Frames of a run as a user sees them, and what stands in the place of those that are missing."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Validity(enum.IntEnum):
    """The class in which a frame ends, with its code in messages and files."""

    VALID = 0
    PARTIAL = 1
    """Made of fewer packets, modules or summed frames than asked."""
    DROPPED = 2
    """The detector says it did not deliver the frame."""
    PACKET_LOSS = 3
    OVERRUN = 4
    """No buffer was free when the frame came."""
    PROCESSING_FAULT = 5
    VETO = 6
    """Left out on purpose."""
    RECEIVER_LOST = 7
    CRASH = 8
    """Lost with a crash before it was safe in a file."""
    NEVER_SENT = 9
    """The acquisition ended before the frame was exposed."""

    @property
    def words(self) -> str:
        """Its name for people."""
        return self.name.lower().replace("_", " ")


OPEN = 255
"""Code of a frame of which nothing is known yet."""
THERE = (Validity.VALID, Validity.PARTIAL)
NOT_LOST = (*THERE, Validity.VETO, Validity.NEVER_SENT)
"""Classes of frames that are there, or were never meant to be."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image.

    Shapes: ``data`` (bands, rows, cols); read-only.
    """

    idx: int
    """Number of the frame in the acquisition."""
    data: NDArray[Any]
    validity: Validity = Validity.VALID
    """VALID or PARTIAL."""
    timestamp_s: float = 0.0
    """Start of the exposure, seconds since 1970; 0 if unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """The pixels of one image that reached a threshold.

    Shapes: ``index`` and ``intensity`` (hits,); ``shape`` (rows, cols) of the image.
    """

    idx: int
    """Number of the frame in the acquisition."""
    index: NDArray[np.int32]
    """Positions in the image: row * columns + column."""
    intensity: NDArray[Any]
    shape: tuple[int, int]
    validity: Validity = Validity.VALID
    """VALID or PARTIAL."""
    timestamp_s: float = 0.0
    """Start of the exposure, seconds since 1970; 0 if unknown."""

    def image(self) -> NDArray[Any]:
        """The image; pixels that are no hits read 0.

        Shapes: (1, rows, cols).
        """
        rows, cols = self.shape
        pixels = np.zeros(rows * cols, self.intensity.dtype)
        pixels[self.index] = self.intensity
        return pixels.reshape(1, rows, cols)


@dataclass(frozen=True, slots=True)
class Gap:
    """A frame that is not there; it takes the place of the frame in every order."""

    idx: int
    cause: Validity
    """What became of it; VALID or PARTIAL for a frame that was there and is forgotten by now."""
    detail: str = ""
