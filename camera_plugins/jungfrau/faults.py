"""Faults of a packet stream: by rule, or at random with a seed."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from lima2_core.errors import ParamError


class FaultKind(enum.StrEnum):
    """What can happen to a packet, or beside it."""

    DROP = "drop"
    DELAY = "delay"
    """It comes in the middle of the burst ``amount`` frames later, or at the end."""
    SWAP = "swap"
    """It changes places with the next packet of its frame."""
    DOUBLE = "double"
    """It comes twice in a row."""
    SHORT = "short"
    """It is cut to half."""
    FOREIGN = "foreign"
    """Before it comes a packet of another detector, by turns of its own size or of ours."""
    OUT_OF_RANGE = "out_of_range"
    """Before it comes a packet with a number that no packet has."""
    PAUSE = "pause"
    """Before it nothing is sent for ``amount`` milliseconds."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A fault of certain packets; None means all of them.

    Packets and frames count from 0 within the frame and the acquisition, whatever numbers they
    carry.
    """

    kind: FaultKind
    frame: int | None = None
    packet: int | None = None
    module: int | None = None
    port: int | None = None
    every: int = 1
    """Of the frames (from 0) only each so-many-th."""
    amount: int = 1

    def fits(self, module: int, port: int, frame: int) -> bool:
        return (
            self.frame in (None, frame)
            and self.module in (None, module)
            and self.port in (None, port)
            and frame % self.every == 0
        )

    @classmethod
    def from_text(cls, text: str, where: str = "fault") -> FaultRule:
        """Read ``drop:frame=3,packet=5``.

        Raises:
            ParamError: it is not written so; the path is ``where``.
        """
        kind, _, rest = text.partition(":")
        allowed = {item.name for item in fields(cls)} - {"kind"}
        try:
            values = {name: _count(name, value) for name, value in _pairs(rest)}
            if values.keys() - allowed:
                raise ValueError(f"of {', '.join(sorted(allowed))} only")
            return cls(_kind(kind), **values)
        except ValueError as error:
            raise ParamError(
                f"{text!r} is no fault ({error}); write drop:frame=3,packet=5", path=where
            ) from error


@dataclass(frozen=True, slots=True)
class FaultMix:
    """Faults at random: each packet has at most one; the same seed gives the same faults."""

    rates: Mapping[FaultKind, float]
    """Share of the packets, for each kind."""
    seed: int = 0
    longest_delay: int = 3
    """Frames; delays are 1 up to this."""

    def draw(self, module: int, port: int, frame: int, packets: int) -> dict[int, Fault]:
        rng = np.random.default_rng([self.seed, module, port, frame])
        kinds = list(self.rates)
        limits = np.cumsum([self.rates[kind] for kind in kinds])
        which = np.searchsorted(limits, rng.random(packets), side="right")
        delays = rng.integers(1, self.longest_delay + 1, packets)
        return {
            int(packet): Fault(kinds[which[packet]], int(delays[packet]))
            for packet in np.flatnonzero(which < len(kinds))
        }

    @classmethod
    def from_text(cls, text: str, seed: int, where: str = "mix") -> FaultMix:
        """Read ``drop=0.01,double=0.001``.

        Raises:
            ParamError: it is not written so; the path is ``where``.
        """
        try:
            rates = {_kind(name): float(rate) for name, rate in _pairs(text)}
            if not rates:
                raise ValueError("there is none")
            # Written so that what is no number (nan) is refused.
            if not all(rate >= 0 for rate in rates.values()) or not sum(rates.values()) <= 1:
                raise ValueError("shares are 0 to 1, together at most 1")
        except ValueError as error:
            raise ParamError(
                f"{text!r} is no mix of faults ({error}); write drop=0.01,double=0.001", path=where
            ) from error
        return cls(rates, seed)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one packet."""

    kind: FaultKind
    amount: int = 1


@dataclass(frozen=True, slots=True)
class Faults:
    """All faults of an acquisition; the first rule that fits a packet counts, then the mix."""

    rules: Sequence[FaultRule] = field(default=())
    mix: FaultMix | None = None

    def of_frame(self, module: int, port: int, frame: int, packets: int) -> dict[int, Fault]:
        """The faults of a frame of one port, by packet."""
        found = {} if self.mix is None else self.mix.draw(module, port, frame, packets)
        for rule in reversed(self.rules):
            if rule.fits(module, port, frame):
                which = range(packets) if rule.packet is None else (rule.packet,)
                if rule.kind is FaultKind.PAUSE and rule.packet is None:
                    which = (0,)
                found.update(
                    {packet: Fault(rule.kind, rule.amount) for packet in which if packet < packets}
                )
        return found


def _pairs(text: str) -> list[tuple[str, str]]:
    """Read ``name=value,name=value``."""
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    for name, _, value in parts:
        if not value.strip():
            raise ValueError(f"{name.strip()} has no value")
    return [(name.strip(), value.strip()) for name, _, value in parts]


def _kind(name: str) -> FaultKind:
    if name.strip() not in list(FaultKind):
        raise ValueError(f"the kinds are {', '.join(FaultKind)}")
    return FaultKind(name.strip())


def _count(name: str, text: str) -> int:
    least = 1 if name == "every" else 0
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"{name} is a whole number from {least} on, not {text}")
    return int(text)
