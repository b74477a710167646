"""``lima2 doctor``: is this computer fit to receive a detector."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from lima2_core.host.examine import CHECKS, NOT_AT_PREPARE, examine
from lima2_core.host.finding import Verdict, worst
from lima2_core.host.needs import HostNeeds
from lima2_core.host.remedies import user
from lima2_core.host.report import as_json, summary, table
from lima2_core.host.text import parse_cpus, parse_size

_REALTIME: Final = 90
_NOTHING_NAMED: Final = (
    "No interface was named (--interface, --address): links and cards were not looked at."
)
_AS_ROOT: Final = "Run by root: limits and rights are not those of the user of the servers."

T = TypeVar("T")


def main(argv: Sequence[str]) -> int:
    """Examine this computer: what would lose frames, what it costs, and what mends it."""
    options = _parser().parse_args(argv)
    needs = HostNeeds(
        interfaces=tuple(options.interface),
        addresses=tuple(options.address),
        receive_buffer_bytes=options.buffer,
        packet_bytes=options.packet,
        realtime=options.realtime,
        cpus=options.cpus,
        folders=tuple(options.folder),
        free_bytes=options.free,
        write_bytes_s=options.write_rate,
    )
    findings = examine(needs, leave_out=NOT_AT_PREPARE if options.quick else frozenset())
    if options.json:
        about = {"host": platform.node(), "user": user()}
        print(json.dumps({**about, **as_json(findings)}, indent=2))
    else:
        print(f"{platform.node()}, Linux {platform.release()}, user {user()}")
        if user() == "root":
            print(_AS_ROOT)
        print(f"\n{table(findings)}\n")
        if not (needs.interfaces or needs.addresses):
            print(_NOTHING_NAMED)
        print(summary(findings))
    return 1 if worst(findings) is Verdict.FAULT else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lima2 doctor",
        description=main.__doc__,
        epilog=f"Checks: {', '.join(CHECKS)}. Nothing is changed: the commands are for you. Exit "
        "code 1 if there is a fault, 0 if not, also with warnings.",
    )
    add = parser.add_argument
    add(
        "--interface",
        action="append",
        default=[],
        metavar="NAME",
        help="that the detector sends to, such as eth2; again for more",
    )
    add(
        "--address",
        action="append",
        default=[],
        metavar="IP",
        help="of this computer, that the detector sends to; its interface is found out",
    )
    add(
        "--folder",
        action="append",
        default=[],
        metavar="DIR",
        help="for frames; for about a second a file is written there, and removed",
    )
    size = _checked(parse_size)
    default = HostNeeds()
    add(
        "--buffer",
        type=size,
        default=default.receive_buffer_bytes,
        metavar="SIZE",
        help="of a socket, such as 1GB (default: 64MiB)",
    )
    add(
        "--packet",
        type=size,
        default=default.packet_bytes,
        metavar="SIZE",
        help="of a datagram without headers (default: %(default)s, JUNGFRAU)",
    )
    add(
        "--realtime",
        type=_checked(_priority),
        default=_REALTIME,
        metavar="PRIORITY",
        help="of the listeners, 0 for none (default: %(default)s)",
    )
    add(
        "--cpus",
        type=_checked(parse_cpus),
        default=(),
        metavar="LIST",
        help="cores of the listeners, such as 2-5",
    )
    add("--free", type=size, default=0, metavar="SIZE", help="space wanted in each folder")
    add(
        "--write-rate",
        type=size,
        default=0,
        metavar="SIZE",
        help="wanted in each folder, per second, such as 2GB",
    )
    add(
        "--quick",
        action="store_true",
        help="only what is told at each prepare: nothing is written, no counters",
    )
    add("--json", action="store_true", help="for programs")
    return parser


def _priority(text: str) -> int:
    """A priority of SCHED_FIFO.

    Raises:
        ValueError: it is none.
    """
    if not (text.isdecimal() and int(text) < 100):
        raise ValueError(f"{text!r} is no priority; it goes from 1 to 99, and 0 stands for none")
    return int(text)


def _checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Let the parser show the sentence of the error."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed
