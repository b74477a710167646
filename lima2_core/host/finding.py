"""What a check finds: a verdict, what it costs, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Verdict(Enum):
    """How it stands with one thing."""

    OK = "ok"
    WARNING = "warning"
    """Frames may be lost, or everything is slower than it could be."""
    FAULT = "fault"
    """Frames will be lost, or will not come at all."""
    UNKNOWN = "unknown"
    """It could not be found out; the finding says why."""


WRONG: Final = (Verdict.FAULT, Verdict.WARNING)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one check says about one subject."""

    verdict: Verdict
    found: str
    """What is there; for UNKNOWN, why that is not known."""
    wanted: str = ""
    cost: str = ""
    """A sentence: what the user pays for it; empty if nothing is wrong."""
    remedy: str = ""
    """Commands for a shell of root, one in each line; empty if nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An answer, with the name of the check and what was looked at."""

    check: str
    """Such as ``receive-buffer``."""
    subject: str
    """An interface, an address, a folder, or ``host``."""
    verdict: Verdict
    found: str
    wanted: str
    cost: str
    remedy: str

    @classmethod
    def of(cls, check: str, subject: str, answer: Answer) -> Finding:
        """The finding that an answer makes."""
        return cls(
            check,
            subject,
            answer.verdict,
            answer.found,
            answer.wanted,
            answer.cost,
            answer.remedy,
        )


def good(found: str, wanted: str = "") -> Answer:
    """Nothing is wrong."""
    return Answer(Verdict.OK, found, wanted)


def unknown(reason: str, wanted: str = "") -> Answer:
    """It cannot be found out."""
    return Answer(Verdict.UNKNOWN, reason, wanted)


def worst(findings: Iterable[Finding]) -> Verdict:
    """FAULT before WARNING before OK; what is not known does not count."""
    verdicts = {finding.verdict for finding in findings}
    return next((verdict for verdict in WRONG if verdict in verdicts), Verdict.OK)
