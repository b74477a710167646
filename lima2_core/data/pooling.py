"""Statistics of parts of frames, and those of whole frames that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PART_RECORD = np.dtype(
    [
        ("frame_idx", "<i4"),
        ("recv_idx", "<i4"),
        ("min", "<f4"),
        ("max", "<f4"),
        ("avg", "<f8"),
        ("std", "<f8"),
        ("sum", "<f8"),
        ("pixels", "<f8"),
    ]
)
"""Statistics of the pixels of one region that are in one part: as precise as they were computed,
and of how many ``pixels``, which is not-a-number where the part is missing."""

Reach = tuple[tuple[int, int], ...]
"""First and last + 1 record of each stretch of records of a frame to which pixels of a part can
contribute; the others say nothing, whatever is in them."""

ALL_RECEIVERS = -1
"""``recv_idx`` of records that all receivers have contributed to."""


def reach_of(pixels: NDArray[np.intp]) -> Reach:
    """The records to which pixels contribute.

    Shapes: ``pixels`` (rows,): how many there are for each record.
    """
    edges = np.flatnonzero(np.diff((pixels > 0).astype(np.int8), prepend=0, append=0))
    return tuple((int(first), int(end)) for first, end in edges.reshape(-1, 2))


def reached(reaches: Sequence[Reach], rows: int) -> NDArray[np.bool_]:
    """Which records each part contributes to.

    Shapes: -> (parts, rows).

    Raises:
        ValueError: a reach is none of so many rows.
    """
    found = np.zeros((len(reaches), rows), np.bool_)
    for own, reach in zip(found, reaches, strict=True):
        for first, end in reach:
            if not 0 <= first < end <= rows:
                raise ValueError(f"{first} to {end} are no records of {rows}")
            own[first:end] = True
    return found


def pooled(parts: NDArray[Any], reaching: NDArray[np.bool_], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The statistics of whole frames.

    Mean and deviation come from the counts and moments of the parts, as if all pixels had been
    looked at together: a small spread on a large offset survives. A region to which a missing part
    would have contributed has no values: all are not-a-number, as those of a missing frame. A part
    in which nothing was measured contributes nothing.

    Shapes: parts (parts, frames, rows) of `PART_RECORD`; reaching (parts, rows), as of `reached`
    -> (frames, rows) of ``dtype``, whose fields are among those of `PART_RECORD`.
    """
    reaching = reaching[:, np.newaxis]
    missing = np.isnan(parts["pixels"])
    void = (missing & reaching).any(axis=0) | missing.all(axis=0)
    out = np.zeros(parts.shape[1:], dtype)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for name, values in _moments(parts, reaching & ~missing).items():
            if name in (dtype.names or ()):
                # Regions that are masked, or outside of all parts, have zeros as always.
                found = np.where(reaching.any(axis=0), values, 0.0)
                out[name] = np.where(void, np.nan, found)
    out["frame_idx"] = parts["frame_idx"][0]
    out["recv_idx"] = ALL_RECEIVERS
    return out


def _moments(parts: NDArray[Any], there: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """The statistics by name, of the parts that are ``there``; not-a-number where none measured."""
    pixels = np.where(there, parts["pixels"], 0.0)
    measured = pixels > 0
    total = pixels.sum(axis=0)
    added = np.where(measured, parts["sum"], 0.0).sum(axis=0)
    mean = added / total
    away = np.where(measured, parts["avg"] - mean, 0.0)
    spread = np.where(measured, parts["std"], 0.0)
    squares = (pixels * (np.square(spread) + np.square(away))).sum(axis=0)
    # Where nothing was measured the maximum may still be the mark of saturation.
    shown = measured | (there & ~np.isnan(parts["max"]))
    lowest = np.where(measured, parts["min"], np.inf).min(axis=0)
    highest = np.where(shown, parts["max"], -np.inf).max(axis=0)
    nothing = total == 0
    return {
        "min": np.where(nothing, np.nan, lowest),
        "max": np.where(shown.any(axis=0), highest, np.nan),
        "avg": mean,
        "std": np.sqrt(squares / total),
        "sum": np.where(nothing, np.nan, added),
    }
