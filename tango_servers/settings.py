"""Device properties: looked at when a device is set up, and refused then if they cannot be right.

The path of an error is ``properties.<name>``; its sentence has the value, and what is possible.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from lima2_core.errors import ParamError

TOPOLOGIES = ("single", "round_robin", "dynamic")
MOST_RECEIVERS = 1024
MOST_THREADS = 1024
MOST_MEMORY_MIB = 2**24
MOST_RUNS = 10_000

_NO_NUMBER = re.compile(r"property '(\w+)'.*\(value=\[?(.*?)\]?\) to type")
_DEVICE = re.compile(r"(tango://[^/]+:\d+/)?[^/\s]+/[^/\s]+/[^/\s]+")


def wrong(name: str, sentence: str) -> ParamError:
    """What a device raises that cannot be set up so."""
    return ParamError(sentence, path=f"properties.{name}")


def no_number(told: str) -> ParamError:
    """What a device raises if a property is no whole number, as Tango tells of it.

    Args:
        told: the sentence of Tango; newer versions name the property and its value there.
    """
    found = _NO_NUMBER.search(told)
    if found is None:
        return ParamError(f"{told}; give a whole number", path="properties")
    return wrong(found[1], f"{found[2]} is no whole number")


def check_word(name: str, word: str, allowed: Sequence[str]) -> None:
    """Refuse a word that is none of those allowed; without one nothing is wrong.

    Raises:
        ParamError: it is another one.
    """
    if word and word not in allowed:
        *some, last = allowed
        raise wrong(name, f"{word!r} is unknown; choose {', '.join(some)} or {last}")


def check_number(name: str, number: int, least: int, most: int) -> None:
    """Refuse a number that is out of its range.

    Raises:
        ParamError: it is.
    """
    if not least <= number <= most:
        raise wrong(name, f"{number} is not possible; give a whole number from {least} to {most}")


def check_place(index: int, count: int) -> None:
    """Refuse a place of a receiver that is none: -1 and 0 stand for not given.

    Raises:
        ParamError: the two do not fit together.
    """
    check_number("receiver_index", index, -1, MOST_RECEIVERS - 1)
    check_number("nb_receivers", count, 0, MOST_RECEIVERS)
    if (index >= 0 or count > 0) and not 0 <= index < count:
        raise wrong(
            "receiver_index",
            f"{index} does not fit to nb_receivers {count}; set both, with an index from 0 to "
            "nb_receivers - 1, or none",
        )


def check_devices(name: str, devices: Sequence[str]) -> None:
    """Refuse what cannot be names of devices, or is given twice.

    Raises:
        ParamError: there is such a name.
    """
    seen = set()
    for device in devices:
        if not _DEVICE.fullmatch(device):
            raise wrong(
                name, f"{device!r} is no device; give names such as id00/limareceiver/simulator1"
            )
        if device.lower() in seen:
            raise wrong(name, f"{device!r} is given twice; give each device once")
        seen.add(device.lower())


def check_programs(name: str, programs: Sequence[str]) -> None:
    """Refuse programs that are not named by a path from the root.

    Raises:
        ParamError: there is such a program.
    """
    for program in programs:
        if not PurePosixPath(program).is_absolute():
            raise wrong(name, f"{program!r} is no absolute path of a program")


def the_one(name: str, values: Sequence[str]) -> str:
    """The text of a property that has one; empty if it is not given.

    Raises:
        ParamError: it has several: all but the first would be left out without a word.
    """
    if len(values) > 1:
        raise wrong(name, f"{list(values)} are {len(values)} texts; write them in one, on one line")
    return values[0].strip() if values else ""
