"""``lima2 acquire``: one acquisition from a shell, with its progress and its verdict."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from client.commands.common import bar, command, parser_of
from client.errors import ClientError, ParamError
from client.everyday import Everyday
from client.params import Params
from client.run import Run
from client.system import Lima2
from client.waiting import Wait

_LINE_S = 1.0
"""Time between two lines of progress where there is no terminal."""
_STOP_S = 60.0
"""How long the end of an acquisition is waited for that was stopped by the keyboard."""


@command
def main(argv: Sequence[str]) -> int:
    """Acquire frames; exit code 0 if all are there, 1 if not or if it is refused."""
    options = _parser().parse_args(argv)
    lima = Lima2(options.device)
    params = lima.params
    if options.defaults:
        params.reset()
    _set(params, options)
    run = lima.prepare()
    for warning in lima.warnings:
        print(f"mind: {warning}", file=sys.stderr)
    lima.start(run)
    print(f"run {run.uuid}", flush=True)
    if not options.wait:
        return 0
    try:
        _follow(run, options.timeout, quiet=options.quiet)
    except KeyboardInterrupt:
        print("\nstopping; frames that were taken are kept", file=sys.stderr)
        lima.stop()
        run.wait(_STOP_S)
    return _conclude(run)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("acquire", "Prepare and start an acquisition, and wait for its end.")
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


def _set(params: Params, options: argparse.Namespace) -> None:
    """Put what the user asks for into the parameters."""
    if options.params is not None:
        try:
            text = options.params.read_text(encoding="utf-8")
        except OSError as error:
            raise ClientError(f"{options.params} cannot be read: {error.strerror}") from error
        params.load(text)
    for pair in options.set:
        path, equals, text = pair.partition("=")
        if not equals:
            raise ParamError("give PATH=VALUE", path=path)
        params.parse(path.strip(), text.strip())
    asked = Everyday(
        options.frames, options.exposure, options.latency, options.save, options.prefix
    )
    params.update(asked.values(params))


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


def _conclude(run: Run) -> int:
    complete = run.complete
    print(f"{'complete' if complete else run.phase}: {run.verdict}")
    for name in run.files[:1]:
        print(name)
    return 0 if complete else 1
