"""Findings for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from lima2_core.host.finding import WRONG, Finding, Verdict, worst
from lima2_core.host.text import count

_HEAD: Final = ("verdict", "check", "subject", "found", "wanted")
_LABELS: Final = ("costs:", "mend:")


def table(findings: Sequence[Finding]) -> str:
    """A row for each finding; below each that is wrong, what it costs and what mends it."""
    rows = [_HEAD, *(_row(finding) for finding in findings)]
    # The last column may be as long as it likes.
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEAD) - 1)]
    indent = " " * (widths[0] + 2)
    lines = [_aligned(_HEAD, widths)]
    for finding in findings:
        lines.append(_aligned(_row(finding), widths))
        if finding.verdict in WRONG:
            for label, text in zip(_LABELS, (finding.cost, finding.remedy), strict=True):
                first, *rest = text.split("\n")
                lines.append(f"{indent}{label:<7}{first}")
                lines += [f"{indent}{'':<7}{line}" for line in rest]
    return "\n".join(lines)


def summary(findings: Sequence[Finding]) -> str:
    """The verdict on the whole computer, in a line."""
    number = {verdict: 0 for verdict in Verdict}
    for finding in findings:
        number[finding.verdict] += 1
    faults, warned = number[Verdict.FAULT], number[Verdict.WARNING]
    told = {
        Verdict.OK: f"OK: {count(number[Verdict.OK], 'check')}, nothing wrong",
        Verdict.WARNING: f"WARNING: {count(warned, 'warning')}; frames may be lost",
        Verdict.FAULT: f"FAULT: {count(faults, 'fault')} and {count(warned, 'warning')}; "
        "mend the faults first",
    }[worst(findings)]
    left = number[Verdict.UNKNOWN]
    return told + (f"; {left} could not be found out" if left else "")


def as_json(findings: Sequence[Finding]) -> dict[str, object]:
    """The same for programs."""
    return {
        "verdict": worst(findings).value,
        "summary": summary(findings),
        "findings": [{**asdict(finding), "verdict": finding.verdict.value} for finding in findings],
    }


def _row(finding: Finding) -> tuple[str, ...]:
    return (
        finding.verdict.name,
        finding.check,
        finding.subject,
        finding.found,
        finding.wanted or "-",
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    *cells, last = row
    return "".join(f"{cell:<{width + 2}}" for cell, width in zip(cells, widths, strict=True)) + last
