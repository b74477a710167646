"""What the demonstration says at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tango_servers.local.demo_check import Findings
from tango_servers.local.demo_outcome import Outcome
from tango_servers.local.demo_plan import Plan
from tango_servers.local.demo_scan import ScanFindings

_SHOWN = 5
"""Of frames that are lost or differ, so many are named."""


def all_is_well(
    plan: Plan, outcome: Outcome, findings: Findings, scan: ScanFindings | None = None
) -> bool:
    """Whether every frame was saved, and nothing is other than it should be."""
    return (
        findings.saved == plan.nb_frames
        and (scan is None or (scan.all_is_well and scan.read == plan.nb_frames))
        and not (
            findings.different
            or findings.wrong_statistics
            or outcome.live.different
            or outcome.live.read == 0
            or outcome.warnings
        )
    )


def verdict(plan: Plan, findings: Findings) -> str:
    """The last line."""
    saved, total = findings.saved, plan.nb_frames
    if findings.different:
        sound = f"different from {plan.reference.name}: {_named(findings.different)}"
    else:
        sound = f"equal to {plan.reference.name} pixel by pixel"
    lost = f"{total - saved} LOST; " if saved != total else ""
    return f"{lost}{saved} of {total} frames saved, {sound}"


def table(
    plan: Plan,
    outcome: Outcome,
    findings: Findings,
    picture: Path,
    scan: ScanFindings | None = None,
) -> str:
    """All figures, a line each."""
    rows = _rows(plan, outcome, findings, picture, scan)
    return "".join(f"{name:<12}{text}\n" for name, text in rows)


def _rows(
    plan: Plan, outcome: Outcome, findings: Findings, picture: Path, scan: ScanFindings | None
) -> Iterator[tuple[str, str]]:
    total, live = plan.nb_frames, outcome.live
    yield "acquired", f"{outcome.progress.acquired} of {total} frames"
    yield (
        "rates",
        f"{outcome.rate_hz:.1f} frames/s, {outcome.rate_hz * plan.frame_bytes / 1e6:.0f} MB/s; "
        f"from the start until all files were closed {outcome.duration_s:.1f} s",
    )
    if outcome.verdict:
        yield "ledger", outcome.verdict
    yield "lost", _named(findings.lost) or "nothing"
    yield (
        "live",
        f"{live.read} frames looked at while it ran, "
        + (f"different: {_named(live.different)}" if live.different else "all as they should be"),
    )
    if live.refused:
        yield "", f"{len(live.refused)} were not to be had, the last: {live.refused[-1]}"
    wrong = findings.wrong_statistics
    yield (
        "statistics",
        f"one region, for {findings.saved - len(wrong)} frames what numpy finds in the files"
        + (f", not for {_named(wrong)}" if wrong else ""),
    )
    if scan is not None:
        yield (
            "blissdata",
            f"scan '{scan.title}' with {scan.streams} streams; {scan.read} of {scan.valid} frames "
            "read back, "
            + (
                f"different: {_named(scan.different)}"
                if scan.different
                else "all as they should be"
            ),
        )
        if scan.wrong_statistics:
            yield "", f"sums that are not those of the pixels: {_named(scan.wrong_statistics)}"
    pixels_bytes = findings.saved * plan.frame_bytes
    yield (
        "volume",
        f"{pixels_bytes / 1e6:.1f} MB of pixels in {findings.files} files of "
        f"{findings.file_bytes / 1e6:.1f} MB, compressed "
        f"{pixels_bytes / max(1, findings.file_bytes):.1f} times",
    )
    yield "files", f"{outcome.master_file}::/{outcome.dataset}"
    yield "picture", str(picture)
    for text in outcome.notes:
        yield "mind", text
    for text in outcome.warnings:
        yield "warning", text


def _named(frames: Mapping[int, str] | list[int]) -> str:
    """The first of some frames, with what is known about each."""
    reasons = frames if isinstance(frames, Mapping) else dict.fromkeys(frames, "")
    texts = [f"frame {idx} ({why})" if why else f"frame {idx}" for idx, why in reasons.items()]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
