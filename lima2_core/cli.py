"""The command ``lima2``: finds its sub-commands by entry point, and hands over to them."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Final, TextIO

from lima2_core import registry
from lima2_core.errors import Lima2Error

_UNREAD: Final = 128 + signal.SIGPIPE
"""Exit code where nobody reads on, as with ``lima2 doctor | head -1``: that of other programs."""
_INTERRUPTED: Final = 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; its result is the exit code."""
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            # What is written only as the interpreter ends fails where nobody can catch it; a parser
            # that has shown its help leaves by an exception.
            print(end="", flush=True)
    except BrokenPipeError:
        unread = [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
        if not unread:  # another pipe, and a failure like others
            raise
        for stream in unread:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return _UNREAD


def _run(words: list[str]) -> int:
    known = registry.names(registry.COMMANDS)
    if not words or words[0] in ("-h", "--help"):
        print("usage: lima2 COMMAND [options]\n\ncommands:")
        for name in known:
            print(f"  {name:<10} {_summary(name)}")
        print("\n'lima2 COMMAND --help' tells more.")
        return 0 if words else 2
    if words[0] not in known:
        print(f"lima2: no command {words[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        command: Callable[[Sequence[str]], int] = registry.load(registry.COMMANDS, words[0])
        return command(words[1:])
    except Lima2Error as error:
        print(f"lima2 {words[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _is_unread(stream: TextIO) -> bool:
    """Whether a stream leads to where nobody reads any more."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # it stands for a stream, as in tests
        return False
    poll = select.poll()
    poll.register(number, 0)  # errors are told unasked
    return bool(poll.poll(0))


def _summary(name: str) -> str:
    try:
        command = registry.load(registry.COMMANDS, name)
    except Lima2Error as error:
        return f"({error})"
    return (command.__doc__ or "").strip().split("\n")[0]


def show_plugins(argv: Sequence[str]) -> int:
    """List the installed cameras and pipelines, and why one does not load."""
    failed = 0
    for group in registry.GROUPS:
        for entry in registry.survey(group):
            if entry.failure:
                failed += 1
            state = f"does not load: {entry.failure}" if entry.failure else "ok"
            print(f"{group:<16} {entry.name:<24} {entry.distribution:<16} {state}")
    return 1 if failed else 0
