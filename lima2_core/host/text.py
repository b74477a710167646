"""Sizes, and lists of cores, as people and the kernel write them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)B?", re.ASCII)
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def parse_size(text: str) -> int:
    """Bytes of a size such as ``64MiB``, ``1GB`` or ``8240``.

    Raises:
        ValueError: it is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size; write it like 64MiB, 1GB or 8240")
    number, power, binary = found.groups()
    unit = 1024.0 if binary else 1000.0
    return round(float(number) * pow(unit, _POWERS[power]))


def size(nbytes: int) -> str:
    """A size for people."""
    power = min(len(_UNITS) - 1, max(0, nbytes.bit_length() - 1) // 10)
    return f"{nbytes / 1024**power:.4g} {_UNITS[power]}"


def rate(bytes_s: float) -> str:
    """Bytes per second for people."""
    return f"{bytes_s / 1e9:.3g} GB/s" if bytes_s >= 1e9 else f"{bytes_s / 1e6:.3g} MB/s"


def count(number: int, noun: str) -> str:
    """A number and its noun, which takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def parse_cpus(text: str) -> tuple[int, ...]:
    """Numbers of a list such as ``0-3,8``; empty for an empty one.

    Raises:
        ValueError: it is none.
    """
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


def cpus(numbers: Iterable[int]) -> str:
    """A list of cores such as ``0-3,8``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


def cpu_mask(numbers: Iterable[int]) -> str:
    """The mask that the kernel takes: hexadecimal, a comma after each 32 bits."""
    mask = sum(1 << number for number in set(numbers))
    words: list[int] = []
    while mask or not words:
        words.append(mask & 0xFFFFFFFF)
        mask >>= 32
    first, *rest = reversed(words)
    return ",".join([f"{first:x}", *(f"{word:08x}" for word in rest)])
