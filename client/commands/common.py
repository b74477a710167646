"""What the commands have in common."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence

from client import wire
from client.errors import ClientError
from client.events import Event
from client.progress import Progress

Command = Callable[[Sequence[str]], int]

BAR_WIDTH = 30


def command(main: Command) -> Command:
    """Let a command end with a sentence and exit code 1 where something is refused."""

    @functools.wraps(main)
    def guarded(argv: Sequence[str]) -> int:
        try:
            return main(argv)
        except ClientError as error:
            print(f"lima2 {main.__module__.rpartition('.')[2]}: {error}", file=sys.stderr)
            return 1

    return guarded


def parser_of(name: str, text: str) -> argparse.ArgumentParser:
    """A parser whose first argument is the device."""
    parser = argparse.ArgumentParser(prog=f"lima2 {name}", description=text)
    parser.add_argument(
        "device",
        metavar="DEVICE",
        help="control device, such as id00/limacontrol/simulator or tango://host:port/...",
    )
    return parser


def bar(progress: Progress) -> str:
    """Progress as a bar, where its end is known."""
    if not progress.expected:
        return str(progress)
    filled = int(BAR_WIDTH * min(100.0, progress.percent) / 100)
    return f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {progress.percent:3.0f} % {progress}"


def line(event: Event) -> str:
    """An event for people."""
    phase = "" if event.phase in ("none", event.state) else f", {event.phase}"
    return f"{event.state}{phase}: {event.status or event.progress}"


def results(files: Sequence[str]) -> list[str]:
    """What to tell of the results of a run: its master files, then what is no file."""
    masters = [name for name in files if name.endswith(wire.MASTER_SUFFIX)]
    return [*masters, *(name for name in files if not os.path.isabs(name))] or list(files[:1])
