"""How dark frames were taken: a pedestal holds for other frames only if these were taken alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from lima2_core.errors import ParamError

_US = 1e6


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the frames of one gain stage, or of a run, were taken; None or empty: not known."""

    exposure_s: float | None = None
    high_voltage_v: float | None = None
    high_gain_g0: bool | None = None
    readout_speed: str = ""
    temperature_c: float | None = None
    date: str = ""
    """When they were taken, ISO 8601."""
    acq_id: str = ""
    """Of the run."""

    @classmethod
    def of_acquisition(
        cls, tree: Mapping[str, Any], acq_id: str = "", date: str = ""
    ) -> Conditions:
        """What acquisition parameters tell; nothing, if they are not those of a JUNGFRAU.

        Raises:
            LookupError, TypeError, ValueError: they are no acquisition parameters.
        """
        det, acq = tree.get("det", {}), tree.get("acq", {})
        if "gain_mode" not in det:  # a player of files has times of its own
            return cls(date=date, acq_id=acq_id)
        voltage = float(det.get("high_voltage", -1))
        high_gain = det.get("high_gain_g0")
        exposure_us = acq.get("expo_time")
        return cls(
            exposure_s=None if exposure_us is None else float(exposure_us) / _US,
            high_voltage_v=None if voltage < 0 else voltage,  # left as it was
            high_gain_g0=None if high_gain is None else bool(high_gain),
            readout_speed=str(det.get("readout_speed", "")),
            date=date,
            acq_id=acq_id,
        )

    @classmethod
    def of_attributes(cls, attributes: Mapping[str, Any]) -> Conditions:
        """What a calibration file tells of a stage.

        Raises:
            TypeError, ValueError: a value is none.
        """
        return cls(**{name: kind(attributes[name]) for name, kind in KINDS if name in attributes})

    def to_attributes(self) -> dict[str, Any]:
        """What is known of it, for the calibration file."""
        return {name: value for name, value in self._items() if value is not None and value != ""}

    def filled(self, other: Conditions) -> Conditions:
        """The same, and what ``other`` knows where nothing is known here."""
        return replace(other, **self.to_attributes())

    def both(self, other: Conditions) -> Conditions:
        """What holds for frames of which some were taken in one way and some in the other.

        Raises:
            ValueError: they were taken in different ways.
        """
        for one in differences(self, other):
            raise ValueError(f"it was taken {one.right}, others of its stage {one.left}")
        mine, others = self.to_attributes(), other.to_attributes()
        common = {name: value for name, value in mine.items() if name in others}
        if self.acq_id != other.acq_id:
            common.pop("acq_id", None)
        if "date" in common:
            common["date"] = min(self.date, other.date)
        return Conditions.of_attributes(common)

    def _items(self) -> Iterator[tuple[str, Any]]:
        return ((one.name, getattr(self, one.name)) for one in fields(self))


KINDS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("exposure_s", float),
    ("high_voltage_v", float),
    ("high_gain_g0", bool),
    ("readout_speed", str),
    ("temperature_c", float),
    ("date", str),
    ("acq_id", str),
)
"""Names and types, as in calibration files."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that two conditions have not in common; what each of them was taken with."""

    name: str
    left: str
    right: str


def differences(left: Conditions, right: Conditions) -> Iterator[Difference]:
    """What is known of both, matters, and differs."""
    for name, (tolerance, phrase) in _MATTERS.items():
        values = getattr(left, name), getattr(right, name)
        if not _differ(*values, tolerance):
            continue
        yield Difference(name, *map(phrase, values))


def remarks(
    stages: Sequence[Conditions], now: Conditions, file: str, where: str
) -> tuple[str, ...]:
    """What users should know before frames taken like ``now`` are converted with pedestals.

    Args:
        stages: how the pedestals of G0, G1, G2 were taken.
        now: how the run is taken.
        file: name of the calibration file.
        where: its parameter.

    Raises:
        ParamError: those of G0 were taken with the other gain of G0, so no pixel would be right.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for number, stage in enumerate(stages):
        for one in differences(stage, now):
            if one.name != "high_gain_g0":
                found.setdefault((one.left, one.right), []).append(f"G{number}")
            elif number == 0:
                raise ParamError(
                    f"the pedestals of G0 in {file} were taken {one.left}, this run is taken "
                    f"{one.right}: all photons would be wrong; choose a calibration that goes with "
                    "det.high_gain_g0, or change that",
                    path=where,
                )
    return tuple(
        f"the pedestals of {' and '.join(names)} in {file} were taken {then}, this run is taken "
        f"{here}: if photons are to be exact, take new ones"
        for (then, here), names in found.items()
    )


def exposure_text(exposure_s: float) -> str:
    """For people."""
    units = (("s", 1.0), ("ms", 1e3), ("us", _US))
    name, scale = next((one for one in units if exposure_s * one[1] >= 1), units[-1])
    return f"{exposure_s * scale:g} {name}"


def voltage_text(voltage_v: float) -> str:
    """For people."""
    return f"{voltage_v:g} V"


def _differ(left: Any, right: Any, tolerance: float) -> bool:
    if None in (left, right) or "" in (left, right):
        return False
    if not tolerance:
        return bool(left != right)
    return bool(abs(left - right) > tolerance * max(abs(left), abs(right)))


_MATTERS: dict[str, tuple[float, Callable[[Any], str]]] = {
    # Times come back from the detector as it took them, a bit off.
    "exposure_s": (0.01, lambda value: f"with an exposure time of {exposure_text(value)}"),
    "high_voltage_v": (0.0, lambda value: f"with a high voltage of {voltage_text(value)}"),
    "high_gain_g0": (0.0, lambda value: f"{'with' if value else 'without'} high gain in G0"),
    "readout_speed": (0.0, lambda value: f"at {value} readout speed"),
}
"""By how much they may differ, as a share; and how they are told. Temperatures are not compared:
receivers do not know that of a run."""
