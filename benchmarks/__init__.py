"""Figures of speed, each measured together with what it is compared to.

A benchmark is a module ``bench_<name>.py`` with a function ``main`` that gives one `Result` or
several. ``python -m benchmarks [name ...]`` runs them and prints a line of JSON for each.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypedDict


class Result(TypedDict):
    """One figure; the fields of its line of JSON."""

    name: str
    figure: float
    unit: str
    reference: float | None
    """The same figure of what ours is compared to, in the same unit, from the same run."""
    ratio: float | None
    """``figure`` divided by ``reference``."""
    limit: str | None
    """What has to hold, such as ``ratio >= 0.8``."""
    ok: bool
    """Whether it holds; True without a limit."""


def result(
    name: str,
    figure: float,
    unit: str,
    *,
    reference: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Result:
    """Put a result together.

    Args:
        name: what was measured, ``<benchmark>.<case>``.
        figure: what came out.
        unit: of figure and reference, such as "frames/s".
        reference: the figure of the other implementation; None if there is none.
        at_least: least ratio, or least figure where there is no reference.
        at_most: greatest ratio, or greatest figure where there is no reference.
    """
    ratio = None if reference is None else figure / reference
    judged, subject = (figure, "figure") if ratio is None else (ratio, "ratio")
    limits = []
    if at_least is not None:
        limits.append(f"{subject} >= {at_least:g}")
    if at_most is not None:
        limits.append(f"{subject} <= {at_most:g}")
    return Result(
        name=name,
        figure=figure,
        unit=unit,
        reference=reference,
        ratio=ratio,
        limit=" and ".join(limits) or None,
        ok=(at_least is None or judged >= at_least) and (at_most is None or judged <= at_most),
    )


def detector_frames() -> Path | None:
    """The file of real detector frames; None where it is absent (see tests/README.md)."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("LIMA2_TEST_DATA", default)) / "jungfrau_module.h5"
    return path if path.exists() else None
