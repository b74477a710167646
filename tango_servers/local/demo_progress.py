"""How far an acquisition is: live bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

LINE_EVERY_S = 1.0
"""Time between two lines where there is no terminal."""
_LABEL_CHARS = 10
_MOST_BAR_CHARS = 60


@dataclass(frozen=True, slots=True)
class Progress:
    """Frames that have passed each stage, over all receivers."""

    acquired: int = 0
    received: int = 0
    processed: int = 0
    saved: int = 0


class ProgressView:
    """Shows progress; the last state stays on the screen.

    Args:
        out: where to; bars are drawn if it is a terminal.
        total: frames that are expected.
    """

    def __init__(self, out: TextIO, total: int) -> None:
        self._out = out
        self._total = total
        self._live = out.isatty()
        self._drawn_lines = 0
        self._told: Progress | None = None
        self._next_line_s = 0.0

    def show(self, progress: Progress, elapsed_s: float) -> None:
        """Draw the bars anew, or write a line if the last one is old enough."""
        if self._live:
            self._draw(progress)
        elif elapsed_s >= self._next_line_s:
            self._write_line(progress, elapsed_s)
            self._next_line_s = elapsed_s + LINE_EVERY_S

    def finish(self, progress: Progress, elapsed_s: float) -> None:
        """Show the final state."""
        if self._live:
            self._draw(progress)
        elif progress != self._told:
            self._write_line(progress, elapsed_s)

    def _draw(self, progress: Progress) -> None:
        back = f"\x1b[{self._drawn_lines}A" if self._drawn_lines else ""
        lines = list(self._bars(progress))
        self._out.write(back + "".join(f"\x1b[2K{line}\n" for line in lines))
        self._out.flush()
        self._drawn_lines = len(lines)

    def _bars(self, progress: Progress) -> Iterator[str]:
        digits = len(str(self._total))
        tail_chars = 2 * digits + len("  of ")
        free = shutil.get_terminal_size().columns - _LABEL_CHARS - tail_chars - 1
        width = max(1, min(_MOST_BAR_CHARS, free))
        full, empty = ("█", "░") if "utf" in (self._out.encoding or "").lower() else ("#", ".")
        for name, count in dataclasses.asdict(progress).items():
            done = min(width, width * count // max(1, self._total))
            bar = full * done + empty * (width - done)
            yield f"{name:<{_LABEL_CHARS}}{bar} {count:>{digits}} of {self._total}"

    def _write_line(self, progress: Progress, elapsed_s: float) -> None:
        counts = ", ".join(
            f"{name} {count}" for name, count in dataclasses.asdict(progress).items()
        )
        self._out.write(f"{elapsed_s:5.1f} s: {counts} of {self._total}\n")
        self._out.flush()
        self._told = progress
