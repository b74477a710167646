"""What several parts of a system say, each sentence once."""

from __future__ import annotations

from collections.abc import Iterable


def told_once(told: Iterable[tuple[str, str]]) -> list[str]:
    """Sentences in the order in which they first came, each after those who say it: ``r0, r1: no``.

    A sentence that names who says it stands alone.

    Args:
        told: names and what they say.
    """
    names: dict[str, list[str]] = {}
    for name, sentence in told:
        names.setdefault(sentence, [])
        if name not in sentence and name not in names[sentence]:
            names[sentence].append(name)
    return [
        f"{', '.join(those)}: {sentence}" if those else sentence
        for sentence, those in names.items()
    ]
