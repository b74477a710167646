"""``lima2 watch``: a line for every change of a system, until it is ended from the keyboard."""

from __future__ import annotations

from collections.abc import Sequence

from client.commands.common import command, line, parser_of
from client.system import Lima2


@command
def main(argv: Sequence[str]) -> int:
    """Tell what happens to a system, until Ctrl-C."""
    parser = parser_of("watch", "A line for every change of state, phase or progress.")
    parser.add_argument("--timeout", type=float, metavar="S", help="watch no longer than this")
    options = parser.parse_args(argv)
    last = ""
    for event in Lima2(options.device).events(options.timeout):
        if (told := line(event)) != last:
            print(told, flush=True)
            last = told
    return 0
