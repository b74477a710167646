"""The command ``lima2 emulate jungfrau``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from camera_plugins.jungfrau.emulator import (
    Emulator,
    EmulatorConfig,
    ImageSource,
    numbered_images,
    pattern_image,
    repeated_image,
    stacked_images,
)
from camera_plugins.jungfrau.emulator._sdk import load_images
from camera_plugins.jungfrau.faults import FaultKind, FaultMix, FaultRule, Faults
from lima2_core.errors import ParamError


def main(argv: Sequence[str]) -> int:
    """Send what a detector sends, over UDP, with faults on demand."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.rate < 0 or options.seed < 0:
        parser.error("--rate and --seed are not negative")
    mix = FaultMix.from_text(options.mix, options.seed) if options.mix else None
    config = EmulatorConfig(
        destinations=tuple(_entry(text) for text in options.dest),
        modules=options.modules,
        interfaces=options.interfaces,
        rows=options.rows,
        frames=options.frames,
        first_frame=options.first_frame,
        first_entry=options.first_entry,
        period_s=1 / options.rate if options.rate else 0.0,
        modules_per_column=options.modules_per_column,
        daq_info=options.daq_info,
        faults=Faults(tuple(FaultRule.from_text(text) for text in options.fault), mix),
    )
    stopped: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(True))
    with ExitStack() as stack:
        file = _opened(options.account, stack)  # before anything is sent
        try:
            emulator = Emulator(config, _images(options.images, options.dataset))
        except OSError as error:  # no such host, no way to it
            raise ParamError(f"no way to {' '.join(options.dest)}: {error}", path="dest") from error
        account = emulator.run(lambda: bool(stopped))
        file.write(json.dumps(account.to_json()) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lima2 emulate",
        description=main.__doc__,
        epilog="What was done is written as JSON at the end; SIGTERM and SIGINT end early.",
    )
    add = parser.add_argument
    add("detector", choices=["jungfrau"])
    add(
        "--dest",
        action="append",
        required=True,
        metavar="HOST:PORT[,HOST:PORT...]",
        help="an address for each port of each module; again for further destinations, which "
        "take turns",
    )
    add("--modules", type=int, default=1, metavar="N")
    add("--interfaces", type=int, default=1, choices=[1, 2], help="of each module")
    add(
        "--rows",
        type=int,
        default=512,
        metavar="N",
        help="read out of each module; a multiple of 8",
    )
    add("--frames", type=int, default=1, metavar="N")
    add("--rate", type=float, default=0.0, metavar="HZ", help="0: as fast as it goes")
    add("--first-frame", type=int, default=1, metavar="NUMBER")
    add("--first-entry", type=int, default=0, metavar="N", help="destination of the first frame")
    add("--modules-per-column", type=int, default=0, metavar="N", help="0: all")
    add(
        "--daq-info",
        type=lambda text: int(text, 0),
        default=0,
        metavar="BITS",
        help="as in the headers, such as 0x1",
    )
    add(
        "--images",
        default="numbered",
        metavar="FILE",
        help="HDF5 or NumPy file with (frames, [modules,] 512, 1024) uint16; or 'numbered', or "
        "'pattern'",
    )
    add("--dataset", default="raw", help="of the HDF5 file")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="KIND:frame=N,packet=N,amount=N",
        help=f"again for more; of the kinds {', '.join(FaultKind)}; further: module, port, and "
        "every=N for each so-many-th frame. Without packet: all of a frame. Frames and packets "
        "count from 0. amount: frames of a delay, ms of a pause",
    )
    add(
        "--mix",
        default="",
        metavar="KIND=SHARE,...",
        help="faults at random, by packet: drop=0.01,double=0.001",
    )
    add("--seed", type=int, default=0, help="of the mix")
    add("--account", default="", metavar="FILE", help="for the JSON; standard output if absent")
    return parser


def _opened(name: str, stack: ExitStack) -> TextIO:
    """The file of the account; standard output without a name."""
    if not name:
        return sys.stdout
    try:
        return stack.enter_context(Path(name).open("w"))
    except OSError as error:
        raise ParamError(f"cannot be written: {error}", path="account") from error


def _entry(text: str) -> tuple[tuple[str, int], ...]:
    addresses = []
    for part in text.split(","):
        host, _, port = part.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ParamError(f"{part!r} is no HOST:PORT, with a port up to 65535", path="dest")
        addresses.append((host, int(port)))
    return tuple(addresses)


def _images(name: str, dataset: str) -> ImageSource:
    if name == "numbered":
        return numbered_images
    if name == "pattern":
        return repeated_image(pattern_image())
    return stacked_images(load_images(Path(name), dataset))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
