"""Markdown, and the plugins that the pages describe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lima2_core import registry

SUITE = "lima2-suite"
"""Only what comes with it is described: others bring their own pages."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell or ' ' for cell in line)} |\n" for line in lines)


def code(text: object) -> str:
    """As code; nothing for an empty text."""
    return f"`{text}`" if str(text) else ""


def prose(text: str | None) -> str:
    """A docstring in one line, fit for a table."""
    plain = " ".join((text or "").split()).replace("``", "`").replace("|", "\\|")
    return plain


def installed(group: str) -> Iterator[Any]:
    """The plugins that come with the suite."""
    for entry in registry.survey(group):
        if entry.distribution == SUITE:
            yield registry.load(group, entry.name)
