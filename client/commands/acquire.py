"""``lima2 acquire``: one acquisition from a shell, with its progress and its verdict."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from client.commands.common import bar, command, parser_of, results
from client.errors import ClientError, ParamError
from client.everyday import Everyday
from client.frames import NOT_LOST, Validity
from client.params import Params
from client.run import Run
from client.schema import CHOICE_KEY, joined
from client.system import Lima2
from client.waiting import Wait, check_timeout

_LINE_S = 1.0
"""Time between two lines of progress where there is no terminal."""
_STOP_S = 60.0
"""How long the end of an acquisition is waited for that was stopped by the keyboard."""
_INTERRUPTED = 130
"""Exit code of commands that were ended by Ctrl-C."""
_PATHS_TOLD = 5


@command
def main(argv: Sequence[str]) -> int:
    """Acquire frames; exit code 0 if all are there and valid, 1 if not or if it is refused."""
    options = _parser().parse_args(argv)
    check_timeout(options.timeout)
    lima = Lima2(options.device)
    params = lima.params
    if options.defaults:
        params.reset()
    given = _set(params, options)
    if sys.stdout.isatty() and not options.quiet:
        print(_inherited(params, given, options.device), end="")
    run = lima.prepare()
    for warning in lima.warnings:
        print(f"mind: {warning}", file=sys.stderr)
    interrupted = False
    try:
        # From here on Ctrl-C must not leave a run behind that goes on.
        lima.start(run)
        print(f"run {run.uuid}", flush=True)
        if not options.wait:
            return 0
        _follow(run, options.timeout, quiet=options.quiet)
    except KeyboardInterrupt:
        interrupted = True
        _end(lima, run)
    return _conclude(run, interrupted=interrupted)


def _end(lima: Lima2, run: Run) -> None:
    """End a run early, if it has not ended: else that of another client would be."""
    print("\nstopping; frames that were taken are kept", file=sys.stderr)
    phase = run.phase
    if phase == "prepared":
        lima.reset()
    elif phase == "running":
        lima.stop()
    run.wait(_STOP_S)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("acquire", "Prepare and start an acquisition, and wait for its end.")
    parser.epilog = (
        "Exit code: 0 if every frame is there and valid; 1 if frames are lost, incomplete, or were "
        f"never sent as somebody stopped the acquisition, or if it is refused; {_INTERRUPTED} if "
        "Ctrl-C ended it before all frames were sent. With --frames 0 a stop is no such thing."
    )
    parser.add_argument(
        "--defaults",
        action="store_true",
        help="begin with the defaults of the pipeline instead of what was used last",
    )
    parser.add_argument("--frames", type=int, metavar="N", help="0 = until stopped (Ctrl-C)")
    parser.add_argument("--exposure", type=float, metavar="S", help="seconds for one frame")
    parser.add_argument("--latency", type=float, metavar="S", help="seconds between two frames")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="any parameter; see `lima2 params DEVICE`",
    )
    parser.add_argument(
        "--params", type=Path, metavar="FILE", help="parameters as JSON; others stay as they are"
    )
    parser.add_argument(
        "--save", metavar="DIR", help="save files into this folder, seen by the servers"
    )
    parser.add_argument("--prefix", metavar="P", help="first part of the names of files")
    parser.add_argument("--timeout", type=float, metavar="S", help="wait no longer than this")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")
    parser.add_argument(
        "--no-wait", dest="wait", action="store_false", help="only start it, and print its id"
    )
    return parser


def _set(params: Params, options: argparse.Namespace) -> set[str]:
    """Put what the user asks for into the parameters; gives the paths of all that."""
    given: set[str] = set()
    if options.params is not None:
        try:
            text = options.params.read_text(encoding="utf-8")
        except OSError as error:
            raise ClientError(f"{options.params} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ClientError(f"{options.params} is no text: {error}") from error
        params.load(text)
        given.update(_paths(json.loads(text)))
    pairs = [pair.partition("=") for pair in options.set]
    # Which pipeline it is comes before its parameters.
    for path, equals, text in sorted(pairs, key=lambda pair: CHOICE_KEY not in pair[0].split(".")):
        if not equals:
            raise ParamError("give PATH=VALUE", path=path)
        params.parse(path.strip(), text.strip())
        given.add(path.strip())
    asked = Everyday(
        options.frames, options.exposure, options.latency, options.save, options.prefix
    )
    values = asked.values(params)
    params.update(values)
    return given | set(values)


def _paths(tree: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Paths of all values in a tree."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _paths(value, joined(path, name))
        else:
            yield joined(path, name)


def _inherited(params: Params, given: set[str], device: str) -> str:
    """A line about what is neither the default nor given; empty if there is nothing."""
    found = [
        path
        for path in params.changed()
        if not any(f"{path}.".startswith(f"{one}.") or one.startswith(f"{path}.") for one in given)
    ]
    if not found:
        return ""
    more = len(found) - _PATHS_TOLD
    rest = f" and {more} more; see lima2 params {device}" if more > 0 else ""
    return f"as used last, not the defaults: {', '.join(found[:_PATHS_TOLD])}{rest}\n"


def _follow(run: Run, timeout_s: float | None, *, quiet: bool) -> None:
    """Show progress until the end."""
    terminal = sys.stdout.isatty()
    wait = Wait(f"the end of run {run.uuid}", timeout_s)
    due_s = time.monotonic() + _LINE_S
    while not wait.ask(lambda: run.ended):
        if not quiet and (terminal or time.monotonic() >= due_s):
            due_s = time.monotonic() + _LINE_S
            stuck = wait.ask(lambda: run.stuck)
            told = bar(wait.ask(lambda: run.progress)) + (f"; {stuck}" if stuck else "")
            print(f"\r\033[K{told}" if terminal else told, end="" if terminal else "\n", flush=True)
        wait.pause()
    if terminal and not quiet:
        print(f"\r\033[K{bar(run.progress)}")


def _conclude(run: Run, *, interrupted: bool) -> int:
    """Tell what became of the frames; gives the exit code."""
    counts = run.counts
    partial, unsent = counts.get(Validity.PARTIAL, 0), counts.get(Validity.NEVER_SENT, 0)
    whole = run.complete and not partial and set(counts) <= set(NOT_LOST)
    if whole:
        heading = "stopped" if unsent else "complete"
    else:
        heading = "incomplete" if run.complete else run.phase
    print(f"{heading}: {run.verdict}")
    if partial:
        print(f"{partial} partial: kept, but incomplete")
    for name in results(run.files):
        print(name)
    if whole and not unsent:
        return 0
    return _INTERRUPTED if whole and interrupted else 1
